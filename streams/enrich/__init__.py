"""``fhirline enrich``: completes Infermedica's thin events with the answers of its API (mapping.md §10)."""
