"""Azodha appointment → a state update, from which the Appointment is folded (mapping.md §11.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.azodha.appointment_fold import CALLED_OFF, SOURCE_DATA_FIELDS, UPDATE, built, gives_code
from fhirline.mappers.azodha.clock import sent_instant
from fhirline.mappers.azodha.event import look_up, source_data
from fhirline.mappers.azodha.payload import (
    AppointmentAttributes,
    AppointmentFields,
    AppointmentId,
    AppointmentType,
    Identified,
)
from fhirline.mappers.azodha.people import Professional
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.fhir.elements import integer
from fhirline.mappers.results import Element, Fold

MAPPED, KEPT = "mapped §11.4", "kept §11.4"
BOOK = "BookAppointment"
OWN_FIELDS = ("date", "startTime", "endTime", "appointmentType", "durationInMinutes")
"""Fields that only an appointment has."""


@dataclass(frozen=True, slots=True)
class Appointment:
    """The appointment that an event names.

    ``reference`` is literal only where the event makes it (``fold``), and where it cannot be refused for its status.
    """

    id: str
    id_at: str
    reference: Element
    fold: Fold | None


def appointment(
    reader: Reader,
    build: MappingBuilder,
    providers: Sequence[Professional],
    waiting_room: bool = False,
    guarded: bool = False,
) -> Appointment | None:
    """Read the appointment; None where the event names none, without ``fold`` where it sends only an id.

    ``waiting_room``: the event tells that the patient joined it. ``guarded``: the event is not about an appointment in
    the first place, so that ``id`` and ``status`` of an object without `OWN_FIELDS` are the event's.
    """
    inside = reader.places("appointment", bare=False)
    places = [
        place
        for place in reader.places("appointment")
        if not guarded or place in inside or any(reader.context.raw(f"{place}/{name}") for name in OWN_FIELDS)
    ]
    for identified in (
        reader.find(Identified, inside),
        reader.find(AppointmentId, reader.places("appointment")),
        reader.find(Identified, places),
    ):
        for name, id_at in identified.at.items():
            id = getattr(identified.model, name)
            used = MappingBuilder()
            update = _update(places, providers, waiting_room, reader, used)
            build.absorb(used, claims=update is None or _shown(update, reader))
            return _appointment(id, id_at, update, providers, reader, build)
    return None


def _shown(update: dict[str, Any], reader: Reader) -> bool:
    """Tell whether an update makes an Appointment for certain.

    Otherwise it may wait in the state for a status with a code, so that the Provenance keeps its values.
    """
    return reader.context.settings.unknown_status != "refuse" or gives_code(update)


def _appointment(
    id: str,
    id_at: str,
    update: dict[str, Any] | None,
    providers: Sequence[Professional],
    reader: Reader,
    build: MappingBuilder,
) -> Appointment:
    """Make the Fold of an update; without one, the appointment is only referred to by its identifier."""
    context = reader.context
    logical: Element = {"type": "Appointment", "identifier": context.identifier("appointment", id)}
    if update is None:
        return Appointment(id, id_at, logical, None)
    shown = _shown(update, reader)
    if shown:
        build.claim(MAPPED, id_at)
    subject = context.reference("Appointment", "appointment", *reader.key(id))
    patient = reader.patient_reference
    own = frozenset(provider.practitioner.subject for provider in providers if provider.practitioner)
    refusable = context.settings.unknown_status == "refuse"
    fold = Fold(
        subject,
        {f"{UPDATE}{context.event_key}": update},
        lambda entries: built(context, subject, id, patient, entries, own),
        targets=(subject,) if shown else (),
    )
    return Appointment(id, id_at, logical if refusable else {"reference": subject}, fold)


def _update(
    places: Sequence[str],
    providers: Sequence[Professional],
    waiting_room: bool,
    reader: Reader,
    build: MappingBuilder,
) -> dict[str, Any] | None:
    """Return what the event sends of an appointment, except its id, as plain JSON; None where that is nothing."""
    found = reader.find(AppointmentFields, places)
    attributed = reader.within(places, "attributes")
    status = _status(found, reader, build)
    fields = {
        **_times(found, reader, build),
        **_type(found, build),
        **_reason(attributed, reader, build),
        **_source_data(attributed, reader, build),
        **_field("providers", [_stored(provider) for provider in providers]),
        **_cancelation_reason(found, status, build),
    }
    if not fields and "sent" not in status and not waiting_room:
        return None
    for provider in providers:
        build.claim(MAPPED, *provider.fields)
    return {"status": {**status, "waiting": waiting_room}, "fields": fields, "flags": list(reader.unconfirmed)}


def _field(name: str, value: Any, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Make the state of one field of the appointment; nothing where nothing is sent."""
    return {name: {"value": value, "flags": list(flags)}} if value not in (None, []) else {}


def _times(found: Found[AppointmentFields], reader: Reader, build: MappingBuilder) -> dict[str, Any]:
    fields = {}
    for name, source in (("start", "startTime"), ("end", "endTime")):
        if sent := sent_instant(found, source, reader.context):
            fields.update(_field(name, dict(sent.value), sent.flags))
            build.claim(MAPPED, *found.leaves(*sent.names))
    return fields


def _type(found: Found[AppointmentFields], build: MappingBuilder) -> dict[str, Any]:
    """Read the appointment's type, and its duration from the type or from beside it."""
    kind, at = found.model.appointmentType or AppointmentType(), found.at.get("appointmentType", "")
    minutes, minutes_at = integer(kind.durationInMinutes, least=1), f"{at}/durationInMinutes"
    if minutes is None:
        minutes, minutes_at = integer(found.model.durationInMinutes, least=1), found.at.get("durationInMinutes", "")
    build.claim(
        MAPPED,
        minutes_at if minutes else None,
        f"{at}/name" if kind.name else None,
        f"{at}/description" if kind.description else None,
    )
    return {
        **_field("minutesDuration", minutes),
        **_field("appointmentType", {"text": kind.name} if kind.name else None),
        **_field("description", kind.description),
    }


def _reason(places: Sequence[str], reader: Reader, build: MappingBuilder) -> dict[str, Any]:
    attributes = reader.find(AppointmentAttributes, places)
    build.claim(MAPPED, *attributes.leaves())
    complaint = attributes.model.chiefComplaint
    return _field("reasonCode", [{"text": complaint}] if complaint else None)


def _source_data(places: Sequence[str], reader: Reader, build: MappingBuilder) -> dict[str, Any]:
    fields = {}
    for name in SOURCE_DATA_FIELDS:
        if pointer := reader.locate(name, places):
            fields.update(_field(name, source_data(pointer, KEPT, reader, build)))
    return fields


def _status(found: Found[AppointmentFields], reader: Reader, build: MappingBuilder) -> dict[str, Any]:
    """Return the status in the vendor's words and FHIR's. A booking without a status is booked."""
    sent = found.model.status
    if sent is None:
        return {"default": "booked"} if reader.context.event_type == BOOK else {}
    row = look_up("azodha-appointment-status", sent, found.at["status"], reader, build)
    build.claim(MAPPED, *found.leaves("status"))
    return {"sent": sent, "means": row.means["status"] if row else None}


def _cancelation_reason(
    found: Found[AppointmentFields], status: dict[str, Any], build: MappingBuilder
) -> dict[str, Any]:
    """Read the reason of an appointment that is called off."""
    reason = found.model.cancellationReason
    if not reason or status.get("means") not in CALLED_OFF:
        return {}
    build.claim(MAPPED, *found.leaves("cancellationReason"))
    return _field("cancelationReason", {"text": reason})


def _stored(provider: Professional) -> dict[str, Any]:
    """Return the state of a provider. Its Practitioner has a state of its own."""
    return {"reference": dict(provider.reference)}
