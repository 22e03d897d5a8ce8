"""Trace of a resource to the raw record that made it, and back, by headers and Provenance."""
