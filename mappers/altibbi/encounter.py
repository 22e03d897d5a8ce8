"""Altibbi consultation → Encounter, recomputed from the consultation's state entries (mapping.md §9.1.1, §9.2.1)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.transitions import (
    CLOSED,
    LIVE,
    TRANSITION,
    UNKNOWN,
    HistoryRow,
    Transition,
    status_history,
    transition_flags,
    transitions,
)
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import ACT_CODE, coding, element, extended, listed, reference
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import BuiltResource, Element, Flag, Flags, Fold, NewResource, StateEntries

LATEST = "recommendation"
"""Name of the state entry of W, the recommendation of greatest version that has content (mapping.md §3.5)."""

MENTION = "mention"
"""Name of the state entry of recommendations without content: the consultation exists."""

AlsoBuild = Callable[[StateEntries], Sequence[BuiltResource | NewResource]]
"""Builds the resources of an event other than the Encounter, from a consultation's state entries."""

VIRTUAL = coding(ACT_CODE, "VR", "virtual")


def status_fold(consultation: Consultation, old: str | None, new: str | None, also_build: AlsoBuild) -> Fold:
    """Make the Fold of a status update: one transition, named by its event key, so that a retry adds nothing."""
    transition = {"old": old, "new": new, "at": consultation.time}
    updates = {f"{TRANSITION}{consultation.context.event_key}": transition}
    return encounter_fold(consultation, updates, also_build=also_build)


def encounter_fold(
    consultation: Consultation,
    updates: Mapping[str, Any],
    targets: Sequence[str] = (),
    also_build: AlsoBuild = lambda _: (),
) -> Fold:
    """Make the Fold of a consultation. ``also_build`` builds the event's other resources."""
    return Fold(
        consultation.encounter_reference,
        updates,
        lambda entries: [encounter(consultation, entries), *also_build(entries)],
        (consultation.encounter_reference, *targets),
    )


def encounter(consultation: Consultation, entries: StateEntries) -> BuiltResource:
    """Build the Encounter: status and history from transitions, diagnosis from the latest recommendation."""
    context = consultation.context
    changes = transitions(entries, context.terminology)
    status = changes[-1].new if changes else None
    flags = Flags(*(Flag(code, ("Encounter.status",)) for code in transition_flags(changes)))
    resource = consultation.resource(
        "Encounter",
        "consultation",
        (),
        extension=listed(context.vendor_status(status.sent if status else None)),
        identifier=[context.identifier("consultation", consultation.id)],
        status=status.means if status else UNKNOWN,
        statusHistory=[_status_history(row, context, flags) for row in status_history(changes)],
        class_=VIRTUAL,
        subject=consultation.subject,
        period=_period(changes, flags),
        diagnosis=[{"condition": reference(condition)} for condition in _diagnosis(entries)],
        serviceProvider=reference(context.organization),
    )
    contributing = (LATEST, MENTION, TRANSITION)
    version = max(entry.version for name, entry in entries.items() if name.startswith(contributing))
    return BuiltResource(resource, version, tuple(flags))


def _diagnosis(entries: StateEntries) -> Sequence[str]:
    """Return the references of the latest recommendation's Conditions (mapping.md §9.2.1)."""
    latest = entries.get(LATEST)
    return latest.value["diagnosis"] if latest else ()


def _status_history(row: HistoryRow, context: Context, flags: Flags) -> Element | None:
    """Make a row of ``statusHistory``: status and period, both 1..1. An uncurated word is kept as ``source-value``."""
    return element(
        status=row.status.means,
        _status=None if row.status.curated else extended(_source_value(row, context)),
        period=_start_end(row.start, row.end, "Encounter.statusHistory.period", flags),
    )


def _source_value(row: HistoryRow, context: Context) -> Element:
    """Make ``source-value`` of the vendor's word: a change's new status for a row with a start, else its old one."""
    pointer = "/new_status" if row.start else "/old_status"
    return context.source_value(pointer, row.status.sent, None if row.status.mapped else "unmapped-status")


def _period(changes: Sequence[Transition], flags: Flags) -> Element | None:
    """Make the period: from the first time in progress, to the last closing while closed (§9.1.1, rule 6)."""
    starts = [change.at for change in changes if change.new.means == LIVE]
    closings = [change.at for change in changes if change.new.means == CLOSED]
    closed = bool(changes) and changes[-1].new.means == CLOSED
    start, end = starts[0] if starts else None, closings[-1] if closed else None
    return _start_end(start, end, "Encounter.period", flags)


def _start_end(start: Instant | None, end: Instant | None, path: str, flags: Flags) -> Element | None:
    """Make a Period. An end before its start (a future time is ordered by its receipt) is left out (``per-1``)."""
    if start and end and end < start:
        flags.add("period-inverted", path)
        end = None
    return element(start=start and start.text, end=end and end.text)
