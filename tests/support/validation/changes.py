"""Samples with elements changed, added or left out."""

from typing import Any

from fhirline.mappers.results import Resource
from tests.support.validation.samples import sample

URL = "http://x.example/e"


def alter(resource_type: str, *without: str, **content: Any) -> Resource:
    """Return the sample of a type without some elements, and with others."""
    kept = {name: value for name, value in sample(resource_type).items() if name not in without}
    return kept | content


def contained_medication(**content: Any) -> Resource:
    """Return a MedicationStatement that contains a Medication of this content."""
    return alter("MedicationStatement", contained=[{"resourceType": "Medication", "id": "drug"} | content])
