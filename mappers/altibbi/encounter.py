"""Altibbi consultation → Encounter, recomputed from everything that was said of it (mapping.md §9.1.1, §9.2.1)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fhirline.mappers.altibbi import transitions
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.transitions import CLOSED, LIVE, UNKNOWN, Row, Transition
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import ACT_CODE, coding, element, extended, listed, reference
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import BuiltResource, Element, Flag, Flags, Fold, StateEntries

LATEST = "recommendation"
"""Register of W, the recommendation of greatest version that says something (mapping.md §3.5)."""

MENTION = "mention"
"""Register of recommendations that name the consultation and say nothing else."""

VIRTUAL = coding(ACT_CODE, "VR", "virtual")


def status_fold(consultation: Consultation, old: str | None, new: str | None) -> Fold:
    """What a status update says: one transition, under its event key, so that a retry says nothing new."""
    transition = {"old": old, "new": new, "at": consultation.time}
    return encounter_fold(consultation, {transitions.REGISTER + consultation.context.event_key: transition})


def encounter_fold(
    consultation: Consultation,
    updates: Mapping[str, Any],
    targets: Sequence[str] = (),
    also_build: Callable[[StateEntries], Sequence[BuiltResource]] = lambda _: (),
) -> Fold:
    """The consultation as one subject; ``besides`` builds what else an event makes of its registers."""
    return Fold(
        consultation.encounter,
        updates,
        lambda registers: [encounter(consultation, registers), *also_build(registers)],
        (consultation.encounter, *targets),
    )


def encounter(consultation: Consultation, registers: StateEntries) -> BuiltResource:
    """The Encounter as it follows from the registers, whichever event asks."""
    context = consultation.context
    changes = transitions.transitions(registers, context.terminology)
    status = changes[-1].new if changes else None
    latest = registers.get(LATEST)
    flags = Flags(*(Flag(code, ("Encounter.status",)) for code in transitions.flags(changes)))
    resource = consultation.resource(
        "Encounter",
        "consultation",
        (),
        extension=listed(context.vendor_status(status.sent if status else None)),
        identifier=[context.identifier("consultation", consultation.id)],
        status=status.means if status else UNKNOWN,
        statusHistory=[_row(row, context, flags) for row in transitions.history(changes)],
        class_=VIRTUAL,
        subject=consultation.to_patient,
        period=_period(changes, flags),
        diagnosis=[{"condition": reference(each)} for each in (latest.value["diagnosis"] if latest else ())],
        serviceProvider=reference(context.organization),
    )
    own = (LATEST, MENTION, transitions.REGISTER)
    said = [each.version for name, each in registers.items() if name.startswith(own)]
    return BuiltResource(resource, max(said), tuple(flags))


def _row(row: Row, context: Context, flags: Flags) -> Element | None:
    """Both ``status`` and ``period`` are 1..1. A word that its code does not tell stands beside it."""
    return element(
        status=row.status.means,
        _status=None if row.status.curated else extended(_sent(row, context)),
        period=_start_end(row.start, row.end, "Encounter.statusHistory.period", flags),
    )


def _sent(row: Row, context: Context) -> Element:
    """A row that starts with a change is what that one led to; one without a start is what the next one left."""
    pointer, issue = "/new_status" if row.start else "/old_status", None if row.status.mapped else "unmapped-status"
    return context.source_value(pointer, row.status.sent, issue)


def _period(changes: Sequence[Transition], flags: Flags) -> Element | None:
    """Rule 6: from the first time in progress, to the last closing while closed."""
    starts = [change.at for change in changes if change.new.means == LIVE]
    closings = [change.at for change in changes if change.new.means == CLOSED]
    closed = bool(changes) and changes[-1].new.means == CLOSED
    start, end = starts[0] if starts else None, closings[-1] if closed else None
    return _start_end(start, end, "Encounter.period", flags)


def _start_end(start: Instant | None, end: Instant | None, at: str, flags: Flags) -> Element | None:
    """A Period; an end before its start (a time in the future is ordered by its receipt) is left out (``per-1``)."""
    if start and end and end < start:
        flags.add("period-inverted", at)
        end = None
    return element(start=start and start.text, end=end and end.text)
