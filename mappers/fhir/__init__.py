"""FHIR R4 without any vendor: builders of elements, narratives, validation."""
