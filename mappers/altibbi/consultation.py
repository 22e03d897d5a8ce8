"""The consultation of an event, and what both kinds of events make besides it: Patient and Coverage."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fhirline.mappers import people
from fhirline.mappers.altibbi.coverage import coverage
from fhirline.mappers.altibbi.payload import Event
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import extended, reference
from fhirline.mappers.identity import Part
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import Element, Flag, Fold, MappingResult, NewResource, Refused, Resource


@dataclass(frozen=True)
class Consultation:
    """Whose consultation it is: every key starts with the user, then the consultation (mapping.md §4.1)."""

    context: Context
    user: str
    id: str

    @cached_property
    def encounter(self) -> str:
        """Reference of the Encounter, which is also the subject of everything that is remembered (mapping.md §3.2)."""
        return self.context.reference("Encounter", "consultation", self.user, self.id)

    @cached_property
    def to_patient(self) -> Element | None:
        return reference(self.context.reference("Patient", "user", self.user))

    @cached_property
    def to_encounter(self) -> Element | None:
        return reference(self.encounter)

    @property
    def time(self) -> str:
        """Event time, as FHIR elements get it."""
        return self.context.time.instant.text

    @cached_property
    def time_basis(self) -> Element | None:
        """Companion of a date that stands for one that was not sent."""
        return extended(self.context.value_basis("event-time"))

    def resource(self, resource_type: str, kind: str, parts: tuple[Part, ...], /, **content: Any) -> Resource:
        """A resource of this consultation; ``content`` in FHIR's element order."""
        return self.context.resource(resource_type, kind, (self.user, self.id, *parts), **content)


def surroundings(event: Event, context: Context) -> tuple[NewResource | Fold, ...]:
    """Patient and Coverage (mapping.md §9.1.2), as far as the event names them."""
    if event.user_id is None:
        return ()
    cover = coverage(event.user_id, event.insurance_id, event.policy_number, context)
    return (people.patient(context, "user", event.user_id), *([cover] if cover else ()))


def without_consultation(event: Event, context: Context) -> MappingResult:
    """An event that lacks the user's or the consultation's id: nothing can hang on a consultation (rule 10)."""
    refused = []
    if event.user_id is None:
        refused.append(Refused("Patient", Flag("patient-missing", ("/user_id",))))
    if event.consultation_id is None:
        refused.append(Refused("Encounter", Flag("resource-refused", ("/consultation_id",))))
    told = () if event.user_id is None else ("user_id", "type", "insurance_id", "policy_number", "datetime")
    omitted = [f"/{name}" for name in type(event).model_fields if name not in told]
    return MappingResult(
        resources=surroundings(event, context),
        refused=tuple(refused),
        omitted=(*omitted, *unread_time(context)),
    )


def unread_time(context: Context) -> tuple[str, ...]:
    """The pointer of a ``datetime`` that is not emitted as it was sent, so that it is kept (mapping.md §3.3)."""
    sent = context.raw("/datetime")
    read = Instant.parse(sent)
    return () if read and read.text == sent else ("/datetime",)
