"""What an Azodha event says of its appointment (mapping.md §11.4): a statement, of which the Appointment is folded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.azodha import clock
from fhirline.mappers.azodha.appointment_fold import CALLED_OFF, KEPT, STATEMENT, folded
from fhirline.mappers.azodha.payload import (
    AppointmentAttributes,
    AppointmentFields,
    AppointmentId,
    AppointmentType,
    Identified,
)
from fhirline.mappers.azodha.people import Professional
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.fhir.elements import integer
from fhirline.mappers.results import Element, Fold

PARAGRAPH = "§11.4"
BOOK = "BookAppointment"
TELLING = ("date", "startTime", "endTime", "appointmentType", "durationInMinutes")


@dataclass(frozen=True, slots=True)
class Appointment:
    """The appointment of an event. ``reference`` is how others refer to it: a literal only where it is made."""

    id: str
    id_at: str
    reference: Element
    fold: Fold | None


def appointment(
    reader: Reader, providers: Sequence[Professional], waiting_room: bool = False, guarded: bool = False
) -> Appointment | None:
    """What the event says of its patient's appointment; None where it names none, no ``fold`` where it only names one.

    ``guarded``: the event is not about an appointment in the first place, so that ``id`` and ``status`` beside no
    field that only an appointment has are the event's own, not an appointment's.
    """
    inside = reader.places("appointment", bare=False)
    places = [
        place
        for place in reader.places("appointment")
        if not guarded or place in inside or any(reader.context.raw(f"{place}/{each}") for each in TELLING)
    ]
    for identified in (
        reader.find(Identified, inside),
        reader.find(AppointmentId, reader.places("appointment")),
        reader.find(Identified, places),
    ):
        for name in identified.at:
            return _named(reader, getattr(identified.model, name), identified.at[name], places, providers, waiting_room)
    return None


def _named(
    reader: Reader, id: str, id_at: str, places: Sequence[str], providers: Sequence[Professional], waiting_room: bool
) -> Appointment:
    context = reader.context
    statement = _statement(reader, places, providers, waiting_room)
    if statement is None:
        logical = {"type": "Appointment", "identifier": context.identifier("appointment", id)}
        return Appointment(id, id_at, logical, None)
    reader.claim(f"mapped {PARAGRAPH}", id_at)
    key = reader.key(id)
    subject = context.reference("Appointment", "appointment", *key)
    patient = reader.patient
    made = frozenset(each.made.resource["id"] for each in providers if each.made)
    fold = Fold(
        subject,
        {f"{STATEMENT}{context.event_key}": statement},
        lambda registers: folded(context, subject, id, patient, registers, made),
        targets=(subject,),
    )
    return Appointment(id, id_at, {"reference": subject}, fold)


class _Statement:
    """What one event says of an appointment, field by field; JSON-safe, since it is remembered."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.fields: dict[str, dict[str, Any]] = {}

    def updates(self, name: str, value: Any, *flags: str) -> None:
        if value not in (None, []):
            self.fields[name] = {"value": value, "flags": list(flags)}

    def mapped(self, found: Found[Any], *names: str) -> None:
        self.reader.mapped(found, PARAGRAPH, *names)


def _statement(
    reader: Reader, places: Sequence[str], providers: Sequence[Professional], waiting_room: bool
) -> dict[str, Any] | None:
    """What the event sends of an appointment besides its id; None where that is nothing."""
    said = _Statement(reader)
    found = reader.find(AppointmentFields, places)
    attributed = reader.within(places, "attributes")
    for name, source in (("start", "startTime"), ("end", "endTime")):
        if instant := clock.instant(reader, found, source):
            said.updates(name, dict(instant.value), *instant.flags)
            said.mapped(found, *instant.names)
    _kind(said, found)
    attributes = reader.find(AppointmentAttributes, attributed)
    if complaint := attributes.model.chiefComplaint:
        said.updates("reasonCode", [{"text": complaint}])
        said.mapped(attributes)
    for name in KEPT:
        if pointer := reader.locate(name, attributed):
            said.updates(name, reader.keep(pointer, PARAGRAPH))
    said.updates("providers", [_remembered(each) for each in providers])
    status = _status(said, found)
    if not said.fields and "sent" not in status and not waiting_room:
        return None
    for each in providers:
        reader.claim(f"mapped {PARAGRAPH}", *each.claims)
    return {"status": {**status, "waiting": waiting_room}, "fields": said.fields, "flags": list(reader.unconfirmed)}


def _kind(said: _Statement, found: Found[AppointmentFields]) -> None:
    """The appointment's type; its duration may also stand beside it."""
    kind, at = found.model.appointmentType or AppointmentType(), found.at.get("appointmentType", "")
    minutes, minutes_at = integer(kind.durationInMinutes, least=1), f"{at}/durationInMinutes"
    if minutes is None:
        minutes, minutes_at = integer(found.model.durationInMinutes, least=1), found.at.get("durationInMinutes", "")
    said.updates("minutesDuration", minutes)
    said.updates("appointmentType", {"text": kind.name} if kind.name else None)
    said.updates("description", kind.description)
    said.reader.claim(
        f"mapped {PARAGRAPH}",
        minutes_at if minutes else None,
        f"{at}/name" if kind.name else None,
        f"{at}/description" if kind.description else None,
    )


def _status(said: _Statement, found: Found[AppointmentFields]) -> dict[str, Any]:
    """The status in the vendor's words and FHIR's; of a booking without any, that it is booked."""
    context, sent = said.reader.context, found.model
    if sent.status is None:
        return {"default": "booked"} if context.event_type == BOOK else {}
    row = said.reader.row("azodha-appointment-status", sent.status, found.at["status"])
    means = row.means["status"] if row else None
    said.mapped(found, "status")
    if sent.cancellationReason and means in CALLED_OFF:
        said.updates("cancelationReason", {"text": sent.cancellationReason})
        said.mapped(found, "cancellationReason")
    return {"sent": sent.status, "means": means}


def _remembered(provider: Professional) -> dict[str, Any]:
    """A provider with the Practitioner that was made of it: each later Bundle of the appointment carries it too."""
    resource = provider.made.resource if provider.made else {}
    content = {name: value for name, value in resource.items() if name != "meta"}
    return {"reference": dict(provider.reference), "resource": content or None}
