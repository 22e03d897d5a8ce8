"""The pipeline around the vendors' mappings: redaction, parsing, mapping, folding and the outcome of one event."""
