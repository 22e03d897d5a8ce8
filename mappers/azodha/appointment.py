"""Azodha appointments: what an event says of one, and the Appointment that follows from all of it (mapping.md §11.4).

Each event is a statement, remembered under ``statement <event key>``. The Appointment is a function of the statements
sorted by stamp, whatever order they came in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mappers.azodha import clock
from mappers.azodha.payload import AppointmentAttributes, AppointmentFields, AppointmentId, Identified
from mappers.azodha.people import Professional
from mappers.azodha.reader import Found, Reader
from mappers.context import Context
from mappers.contract import Element, Entry, Flag, Fold, Folded, Registers
from mappers.fhir.elements import data_absent, integer, resource
from mappers.instants import Instant

PARAGRAPH = "§11.4"
STATEMENT = "statement "
BOOK = "BookAppointment"
KEPT = ("locationType", "patientLocation", "workflow", "resources")
BEFORE_ARRIVAL = (None, "pending", "booked", "checked-in", "waitlist")
ATTENDING = ("booked", "arrived", "checked-in", "fulfilled")
CALLED_OFF = ("cancelled", "noshow")
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
        makes=(subject,),
    )
    return Appointment(id, id_at, {"reference": subject}, fold)


def _statement(
    reader: Reader, places: Sequence[str], providers: Sequence[Professional], waiting_room: bool
) -> dict[str, Any] | None:
    """What the event sends of an appointment besides its id, JSON-safe; None where that is nothing."""
    context = reader.context
    found = reader.find(AppointmentFields, places)
    attributes = reader.find(AppointmentAttributes, reader.within(places, "attributes"))
    sent = found.model
    fields: dict[str, dict[str, Any]] = {}

    def says(name: str, value: Any, *flags: str) -> None:
        if value not in (None, []):
            fields[name] = {"value": value, "flags": list(flags)}

    for name, source in (("start", "startTime"), ("end", "endTime")):
        if said := clock.instant(reader, found, source):
            says(name, dict(said.value), *said.flags)
            reader.mapped(found, PARAGRAPH, *said.names)
    kind = sent.appointmentType
    minutes = integer(kind.durationInMinutes, least=1) if kind else None
    minutes_at = "appointmentType/durationInMinutes"
    if minutes is None:
        minutes, minutes_at = integer(sent.durationInMinutes, least=1), "durationInMinutes"
    if minutes is not None:
        says("minutesDuration", minutes)
        _claim(reader, found, minutes_at)
    if kind and kind.name:
        says("appointmentType", {"text": kind.name})
        _claim(reader, found, "appointmentType/name")
    if kind and kind.description:
        says("description", kind.description)
        _claim(reader, found, "appointmentType/description")
    if complaint := attributes.model.chiefComplaint:
        says("reasonCode", [{"text": complaint}])
        reader.mapped(attributes, PARAGRAPH)
    for name in KEPT:
        if pointer := reader.locate(name, reader.within(places, "attributes")):
            says(name, reader.keep(pointer, PARAGRAPH))
    status: dict[str, Any] = {"waiting": waiting_room}
    if sent.status:
        row = context.terminology.row("azodha-appointment-status", sent.status)
        status |= {"sent": sent.status, "means": row.means["status"] if row else None}
        reader.mapped(found, PARAGRAPH, "status")
        if sent.cancellationReason and status["means"] in CALLED_OFF:
            says("cancelationReason", {"text": sent.cancellationReason})
            reader.mapped(found, PARAGRAPH, "cancellationReason")
    elif context.event_type == BOOK:
        status["default"] = "booked"
    says("providers", [_remembered(each) for each in providers])
    if not fields and not sent.status and not waiting_room:
        return None
    for each in providers:
        reader.claim(f"mapped {PARAGRAPH}", *each.claims)
    return {"status": status, "fields": fields, "flags": list(reader.unconfirmed)}


def _remembered(provider: Professional) -> dict[str, Any]:
    """A provider with the Practitioner that was made of it: each later Bundle of the appointment carries it too."""
    resource = provider.made.resource if provider.made else {}
    content = {name: value for name, value in resource.items() if name != "meta"}
    return {"reference": dict(provider.reference), "resource": content or None}


def _claim(reader: Reader, found: Found[AppointmentFields], name: str) -> None:
    outer, _, inner = name.partition("/")
    reader.claim(f"mapped {PARAGRAPH}", found.at[outer] + (f"/{inner}" if inner else ""))


def folded(
    context: Context, subject: str, id: str, patient: str, registers: Registers, own: frozenset[str]
) -> list[Folded]:
    """The Appointment as it follows from its statements; pure, and of no one event.

    With it the Practitioners that earlier events have made of its providers, but for the event's ``own``: the Bundle
    carries every resource that it refers to (mapping.md §3.1).
    """
    entries = sorted((registers[each] for each in registers if each.startswith(STATEMENT)), key=lambda each: each.stamp)
    statements = [entry.value for entry in entries]
    fields = _fields(statements)
    status = _status(statements)
    flags = {flag for each in statements for flag in each["flags"]}
    flags.update(flag for each in fields.values() for flag in each["flags"])
    if status.unmapped:
        flags.add("unmapped-status")

    def value(name: str) -> Any:
        return fields[name]["value"] if name in fields else None

    start, end = value("start"), value("end")
    start_text, end_text = (start or {}).get("value"), (end or {}).get("value")
    end_companion = (end or {}).get("companion") if end_text else clock.without_value(end)
    if start_text and end_text and _instant(end_text) < _instant(start_text):
        flags.add("period-inverted")
        end_companion, end_text = clock.left_out(context, end), None
    participation = "accepted" if status.code in ATTENDING else "needs-action"
    made = resource(
        "Appointment",
        subject.partition("/")[2],
        extension=[
            each
            for each in (context.vendor_status(status.sent), *(kept for name in KEPT for kept in value(name) or ()))
            if each
        ],
        identifier=[context.identifier("appointment", id)],
        status=status.code,
        _status=status.companion(context),
        cancelationReason=value("cancelationReason") if status.code in CALLED_OFF else None,
        appointmentType=value("appointmentType"),
        reasonCode=value("reasonCode"),
        description=value("description"),
        start=start_text,
        _start=(start or {}).get("companion") if start_text else clock.without_value(start),
        end=end_text,
        _end=end_companion,
        minutesDuration=value("minutesDuration"),
        participant=[
            {"actor": actor, "status": participation}
            for actor in (
                {"reference": patient},
                *(each["reference"] for each in value("providers") or ()),
            )
        ],
    )
    appointment = Folded(made, entries[-1].stamp, tuple(Flag(code) for code in sorted(flags)))
    return [appointment, *_carried(entries, own)]


def _carried(entries: Sequence[Entry], own: frozenset[str]) -> Iterator[Folded]:
    """The Practitioners of the providers last sent, as of the event that sent them."""
    said = [entry for entry in entries if "providers" in entry.value["fields"]]
    for provider in said[-1].value["fields"]["providers"]["value"] if said else ():
        if (content := provider["resource"]) and content["id"] not in own:
            made = {"resourceType": content["resourceType"], "id": content["id"], "meta": {}, **content}
            flags = tuple(Flag(code) for code in said[-1].value["flags"])
            yield Folded(made, said[-1].stamp, flags, targeted=False)


def _fields(statements: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Each field as last sent. A date alone that says nothing new leaves the time that is known."""
    fields: dict[str, Mapping[str, Any]] = {}
    for statement in statements:
        for name, said in statement["fields"].items():
            known = fields.get(name)
            lone = isinstance(said["value"], Mapping) and said["value"].get("lone")
            if lone and known and known["value"].get("date") == said["value"]["date"]:
                continue
            fields[name] = said
    return fields


@dataclass(frozen=True, slots=True)
class Status:
    """The status after all statements: ``code`` None has no FHIR value, ``sent`` are the vendor's last own words."""

    code: str | None = None
    sent: str | None = None
    unmapped: bool = False
    default: bool = False

    def companion(self, context: Context) -> Element | None:
        if self.code is None:
            return data_absent("unsupported" if self.unmapped else "unknown")
        return {"extension": [context.value_basis("default")]} if self.default else None


def _status(statements: Sequence[Mapping[str, Any]]) -> Status:
    """The sorted statements in turn; a patient in the waiting room arrives only where that is news."""
    status = Status()
    for said in (statement["status"] for statement in statements):
        sent = said.get("sent") or status.sent
        if said["waiting"]:
            arrives = status.code in BEFORE_ARRIVAL
            status = Status("arrived", sent) if arrives else Status(status.code, sent, status.unmapped, status.default)
        elif "sent" in said:
            status = Status(said["means"], sent, unmapped=said["means"] is None)
        elif "default" in said:
            status = Status(said["default"], default=True)
    return status


def _instant(text: str) -> Instant:
    instant = Instant.parse(text)
    assert instant is not None
    return instant
