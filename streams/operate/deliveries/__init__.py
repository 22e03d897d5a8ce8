"""The Bundles that wait to be delivered to the FHIR server, and the order to send them."""
