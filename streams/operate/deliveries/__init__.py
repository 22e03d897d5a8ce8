"""What waits to be delivered to the FHIR server, and the order to send it."""
