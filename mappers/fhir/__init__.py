"""FHIR R4's own vocabulary: builders, standing resources, narrative, validation. Knows no vendor."""
