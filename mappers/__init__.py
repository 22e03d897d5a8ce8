"""Pure functions: one vendor event in, FHIR R4 resources out. No Kafka, clock, randomness, environment or I/O."""

MAPPING_VERSION = "map-3"
"""Version of the mappings, raised when an output changes: header ``mapping-version``, key of the mapper's Device."""

MAP_SET_VERSION = "maps-3"
"""Version of the code tables (mapping.md §12)."""
