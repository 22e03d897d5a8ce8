"""Azodha's Appointment as it follows from all that was said of it (mapping.md §11.4).

Each event's statement is remembered under ``statement <event key>``. The Appointment is a function of the statements
sorted by version, whatever order they came in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.azodha import clock
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import data_absent, resource
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import BuiltResource, Element, Entry, Flag, StateEntries

STATEMENT = "statement "
KEPT = ("locationType", "patientLocation", "workflow", "resources")
BEFORE_ARRIVAL = (None, "pending", "booked", "checked-in", "waitlist")
ATTENDING = ("booked", "arrived", "checked-in", "fulfilled")
CALLED_OFF = ("cancelled", "noshow")


def folded(
    context: Context, subject: str, id: str, patient: str, registers: StateEntries, own: frozenset[str]
) -> list[BuiltResource]:
    """The Appointment as it follows from its statements; pure, and of no one event.

    With it the Practitioners that earlier events have made of its providers, but for the event's ``own``: the Bundle
    carries every resource that it refers to (mapping.md §3.1).
    """
    entries = sorted(
        (registers[each] for each in registers if each.startswith(STATEMENT)), key=lambda each: each.version
    )
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
    appointment = BuiltResource(made, entries[-1].version, tuple(Flag(code) for code in sorted(flags)))
    return [appointment, *_carried(entries, own)]


def _carried(entries: Sequence[Entry], own: frozenset[str]) -> Iterator[BuiltResource]:
    """The Practitioners of the providers last sent, as of the event that sent them."""
    said = [entry for entry in entries if "providers" in entry.value["fields"]]
    for provider in said[-1].value["fields"]["providers"]["value"] if said else ():
        if (content := provider["resource"]) and content["id"] not in own:
            made = {"resourceType": content["resourceType"], "id": content["id"], "meta": {}, **content}
            flags = tuple(Flag(code) for code in said[-1].value["flags"])
            yield BuiltResource(made, said[-1].version, flags, targeted=False)


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
