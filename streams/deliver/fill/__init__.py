"""The first fill of a FHIR server, and its repair, from the ``fhir.r4.<Type>`` topics (fhir-delivery.md §8)."""
