"""The consultation that an Altibbi event belongs to, and what both event types make: Patient and Coverage."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fhirline.mappers import people
from fhirline.mappers.altibbi.coverage import coverage
from fhirline.mappers.altibbi.payload import Event
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import extended, reference
from fhirline.mappers.identity import Part
from fhirline.mappers.results import Element, Fold, NewResource, Resource

USED_WITHOUT_CONSULTATION = ("user_id", "type", "insurance_id", "policy_number", "datetime")
"""Fields of an event that are used although it names no consultation: for Patient and Coverage."""


@dataclass(frozen=True)
class Consultation:
    """A consultation of a user. Every key starts with the user's id, then the consultation's (mapping.md §4.1)."""

    context: Context
    user: str
    id: str

    @cached_property
    def encounter_reference(self) -> str:
        """Return the reference ``Encounter/<id>``, which also names the consultation's state (mapping.md §3.2)."""
        return self.context.reference("Encounter", "consultation", self.user, self.id)

    @cached_property
    def encounter(self) -> Element | None:
        """Return a Reference to the Encounter."""
        return reference(self.encounter_reference)

    @cached_property
    def subject(self) -> Element | None:
        """Return a Reference to the Patient."""
        return reference(self.context.reference("Patient", "user", self.user))

    @property
    def time(self) -> str:
        """Return the event time, for elements whose own time is not sent."""
        return self.context.time.instant.text

    @cached_property
    def time_basis(self) -> Element | None:
        """Return the companion of an element that holds the event time: ``value-basis`` (mapping.md §5.2)."""
        return extended(self.context.value_basis("event-time"))

    def resource(self, resource_type: str, kind: str, parts: tuple[Part, ...], /, **content: Any) -> Resource:
        """Make a resource of this consultation; ``content`` in FHIR's element order."""
        return self.context.resource(resource_type, kind, (self.user, self.id, *parts), **content)


def patient_and_coverage(event: Event, context: Context) -> list[NewResource | Fold]:
    """Make Patient and Coverage as far as the event names them (mapping.md §4.3, §9.1.2)."""
    if event.user_id is None:
        return []
    insured = coverage(event.user_id, event.insurance_id, event.policy_number, context)
    return [people.patient(context, "user", event.user_id), *([insured] if insured else [])]


def refuse_consultation(event: Event, build: MappingBuilder) -> None:
    """Refuse what needs the id that an event lacks: the user's or the consultation's (mapping.md §1, rule 10)."""
    if event.user_id is None:
        build.refuse("Patient", "patient-missing", "/user_id")
    if event.consultation_id is None:
        build.refuse("Encounter", "resource-refused", "/consultation_id")
    build.omit(*(f"/{name}" for name in type(event).model_fields if name not in USED_WITHOUT_CONSULTATION))


def unread_time(context: Context) -> list[str]:
    """Return the pointer of a ``datetime`` that is not emitted as it was sent (mapping.md §3.3)."""
    return [] if context.raw("/datetime") == context.time.instant.text else ["/datetime"]
