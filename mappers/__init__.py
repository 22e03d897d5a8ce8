"""Pure functions: one vendor event in, FHIR R4 resources out. No Kafka, clock, randomness, environment or I/O."""

MAPPING_VERSION = "map-3"
"""Goes up when a mapping's output for some input changes: header ``mapping-version``, key of the mapper's Device."""

MAP_SET_VERSION = "maps-3"
"""Version of the code tables (mapping.md §12)."""
