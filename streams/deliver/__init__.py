"""Delivery of the transaction Bundles to a FHIR server, a stage beside the worker (docs/design/fhir-delivery.md)."""
