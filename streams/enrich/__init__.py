"""``fhirline enrich``: completes Infermedica's thin events by what its API answers (mapping.md §10, stage B)."""
