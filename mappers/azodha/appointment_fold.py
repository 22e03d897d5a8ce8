"""State updates of an Azodha appointment → Appointment (mapping.md §11.4).

Each event writes one state entry. The Appointment is a pure function of the entries sorted by version, so that the
order in which the events arrive does not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.azodha.clock import Moment, left_out, moment
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import data_absent, resource
from fhirline.mappers.instants import Instant
from fhirline.mappers.people import known_person
from fhirline.mappers.results import BuiltResource, Element, Entry, Flag, Fold, Refused, Resource, StateEntries

UPDATE = "statement "
"""Prefix of the name of an event's state entry. The event key follows it. Stored in the state topic."""

SOURCE_DATA_FIELDS = ("locationType", "patientLocation", "workflow", "resources")
BEFORE_ARRIVAL = (None, "pending", "booked", "checked-in", "waitlist")
ATTENDING = ("booked", "arrived", "checked-in", "fulfilled")
CALLED_OFF = ("cancelled", "noshow")
"""Statuses with a reason. R4's ``app-4`` as published has a misprint (``no-show``), so that it allows
``cancelationReason`` with ``cancelled`` alone; the reason of a ``noshow`` is a ``comment``."""

Update = Mapping[str, Any]
"""The values of one event (`appointment._update`): ``status``, ``fields`` with value and flags each, and ``flags``."""


def built(
    context: Context, subject: str, id: str, patient: str, entries: StateEntries, own: frozenset[str]
) -> list[BuiltResource | Fold | Refused]:
    """Build the Appointment and the Practitioners that it refers to (mapping.md §3.1).

    ``subject`` and ``patient`` are references. ``own`` are those of the Practitioners that this event makes itself.
    Where the tenant refuses a status without a code, the Appointment is built of the updates up to the last one after
    which it has a code; this event's update is refused if it is a later one.
    """
    updates = sorted(
        (entry for name, entry in entries.items() if name.startswith(UPDATE)), key=lambda entry: entry.version
    )
    if context.settings.unknown_status == "refuse":
        updates = _with_status(updates)
        if not updates or updates[-1].version < context.version:
            return [Refused("Appointment", Flag("status-required", ("Appointment.status",)))]
    values: list[Update] = [entry.value for entry in updates]
    fields, status = _Fields(values), _status(values)
    flags = {flag for value in values for flag in value["flags"]} | fields.flags
    if status.unmapped:
        flags.add("unmapped-status")
    start, end = (moment(fields.value(name), context) for name in ("start", "end"))
    if start.text and end.text and _instant(end.text) < _instant(start.text):
        flags.add("period-inverted")
        end = left_out(fields.value("end"), context)
    content = _appointment(context, subject.partition("/")[2], id, patient, fields, status, start, end)
    appointment = BuiltResource(content, updates[-1].version, tuple(Flag(code) for code in sorted(flags)))
    return [appointment, *_practitioners(fields, own)]


def _appointment(
    context: Context,
    resource_id: str,
    id: str,
    patient: str,
    fields: "_Fields",
    status: "Status",
    start: Moment,
    end: Moment,
) -> Resource:
    participation = "accepted" if status.code in ATTENDING else "needs-action"
    vendor_status, reason = context.vendor_status(status.sent), fields.value("cancelationReason")
    return resource(
        "Appointment",
        resource_id,
        extension=[
            *([vendor_status] if vendor_status else []),
            *(extension for name in SOURCE_DATA_FIELDS for extension in fields.value(name) or ()),
        ],
        identifier=[context.identifier("appointment", id)],
        status=status.code,
        _status=status.companion(context),
        cancelationReason=reason if status.code == "cancelled" else None,
        appointmentType=fields.value("appointmentType"),
        reasonCode=fields.value("reasonCode"),
        description=fields.value("description"),
        start=start.text,
        _start=start.companion,
        end=end.text,
        _end=end.companion,
        minutesDuration=fields.value("minutesDuration"),
        comment=reason["text"] if reason and status.code == "noshow" else None,
        participant=[
            {"actor": actor, "status": participation}
            for actor in (
                {"reference": patient},
                *(provider["reference"] for provider in fields.value("providers") or ()),
            )
        ],
    )


def gives_code(update: Update) -> bool:
    """Tell whether an update by itself gives the appointment a status with a code."""
    return _status([update]).code is not None


def _with_status(updates: list[Entry]) -> list[Entry]:
    """Return the updates, in order, up to the last one after which the status has a code."""
    known = 0
    for number, status in enumerate(_statuses([entry.value for entry in updates]), start=1):
        if status.code is not None:
            known = number
    return updates[:known]


def _practitioners(fields: "_Fields", own: frozenset[str]) -> Iterator[Fold]:
    """Make the Folds of the providers last sent, for Practitioners as all their events made them."""
    for provider in fields.value("providers") or ():
        subject = provider["reference"].get("reference")
        if subject and subject not in own:
            yield known_person(subject)


class _Fields:
    """Each field of the appointment as last sent.

    A date without a time does not replace an instant of the same date: it adds nothing.
    """

    def __init__(self, updates: Sequence[Update]) -> None:
        self._fields: dict[str, Mapping[str, Any]] = {}
        for update in updates:
            for name, sent in update["fields"].items():
                known = self._fields.get(name)
                lone = isinstance(sent["value"], Mapping) and sent["value"].get("lone")
                if not (lone and known and known["value"].get("date") == sent["value"]["date"]):
                    self._fields[name] = sent

    @property
    def flags(self) -> set[str]:
        """Return the flags of all fields, as last sent."""
        return {flag for field in self._fields.values() for flag in field["flags"]}

    def value(self, name: str) -> Any:
        """Return the value of a field; None where it was never sent."""
        return self._fields[name]["value"] if name in self._fields else None


@dataclass(frozen=True, slots=True)
class Status:
    """The status after all updates: ``code`` is FHIR's, None where there is none; ``sent`` the vendor's last word.

    ``unmapped``: the last word has no row. ``default``: no status was sent, and the booking means ``booked``.
    """

    code: str | None = None
    sent: str | None = None
    unmapped: bool = False
    default: bool = False

    def companion(self, context: Context) -> Element | None:
        """Make the companion of the element: why there is no code, or why there is one that was not sent."""
        if self.code is None:
            return data_absent("unsupported" if self.unmapped else "unknown")
        return {"extension": [context.value_basis("default")]} if self.default else None


def _status(updates: Sequence[Update]) -> Status:
    """Return the status after all updates."""
    *_, last = _statuses(updates)
    return last


def _statuses(updates: Sequence[Update]) -> Iterator[Status]:
    """Apply the updates in turn; yield the status after each.

    A patient in the waiting room has arrived, unless the appointment is further on.
    """
    status = Status()
    for update in (update["status"] for update in updates):
        sent = update.get("sent") or status.sent
        if update["waiting"]:
            arrives = status.code in BEFORE_ARRIVAL
            status = Status("arrived", sent) if arrives else Status(status.code, sent, status.unmapped, status.default)
        elif "sent" in update:
            status = Status(update["means"], sent, unmapped=update["means"] is None)
        elif "default" in update:
            status = Status(update["default"], default=True)
        yield status


def _instant(text: str) -> Instant:
    instant = Instant.parse(text)
    assert instant is not None  # written by `clock.sent_instant`
    return instant
