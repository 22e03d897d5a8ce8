"""Infermedica's HTTP API: surveys' results for ``streams.enrich``, and the configurations of its webhooks."""
