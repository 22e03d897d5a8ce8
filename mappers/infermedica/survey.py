"""The survey of an enriched event, and the treatments that its mapping records of values (mapping.md §10)."""

from collections.abc import Iterator
from dataclasses import dataclass

from fhirline.mappers.context import Context
from fhirline.mappers.payload import Payload

MAPPED = "mapped §10"
"""Treatment (`MappingBuilder.claim`) of a value that a resource contains."""

KEPT = "kept §10"
"""Treatment (`MappingBuilder.claim`) of a value that a ``source-data`` extension contains."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey of a patient. ``id`` and ``patient_id`` are the vendor's."""

    context: Context
    id: str
    patient_id: str

    @property
    def subject(self) -> str:
        """Return the reference ``Patient/<id>``."""
        return self.context.reference("Patient", "patient", self.patient_id)

    @property
    def response(self) -> str:
        """Return the reference ``QuestionnaireResponse/<id>``."""
        return self.context.reference("QuestionnaireResponse", "survey", self.id)


def read_fields(pointer: str, sent: Payload, *names: str) -> Iterator[str]:
    """Iterate over the JSON Pointers of those fields of an object at ``pointer`` that could be read."""
    return (f"{pointer}/{name}" for name in names if getattr(sent, name) is not None)
