"""The status changes of a consultation, and the history that follows from them (mapping.md §9.1.1).

Each status update writes one state entry. The functions below are pure functions of these entries, so that the order
in which the events arrive does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fhirline.config.terminology import Terminology
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import StateEntries

TRANSITION = "transition "
"""Prefix of the name of a transition's state entry. Its event key follows it. Stored in the state topic."""

TABLE = "altibbi-status"
ANY_OTHER_RANK = 2
GUIDE = frozenset({"new", "checking_medical_profile", "in_progress", "closed"})
CLOSED, LIVE, UNKNOWN = "finished", "in-progress", "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """A vendor's status ``sent``, and its ``Encounter.status``.

    ``mapped``: the code table has a row for it. ``curated``: the row is of a word of the vendor's guide, so that the
    code alone identifies it. Other words share their code with one of these.
    """

    sent: str
    means: str
    rank: int
    mapped: bool
    curated: bool

    @classmethod
    def of(cls, sent: str, terminology: Terminology) -> "Status":
        """Look a vendor's status up in the code table; one without a row is ``unknown``."""
        row = terminology.row(TABLE, sent)
        if row is None:
            return cls(sent, UNKNOWN, ANY_OTHER_RANK, mapped=False, curated=False)
        return cls(sent, row.means["status"], row.means.get("rank", ANY_OTHER_RANK), True, sent in GUIDE)


@dataclass(frozen=True, slots=True)
class Transition:
    """``old`` → ``new``. ``ranked`` orders it: the instant ``at``, or the receipt where ``at`` is in the future."""

    old: Status | None
    new: Status
    at: Instant
    ranked: tuple[int, str]
    event_key: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A row of ``statusHistory``."""

    status: Status
    start: Instant | None
    end: Instant | None


def transitions(entries: StateEntries, terminology: Terminology) -> list[Transition]:
    """Return T of §9.1.1, in order: one Transition per (old, new, instant), with the least event key that sent it."""
    found: dict[tuple[str | None, str, tuple[int, str]], Transition] = {}
    for name, entry in entries.items():
        if not name.startswith(TRANSITION) or entry.value["new"] is None:
            continue
        old, new, at = entry.value["old"], entry.value["new"], Instant.parse(entry.value["at"])
        assert at is not None  # written by `encounter.status_fold`
        known = found.get((old, new, at.order))
        if known is None or entry.version.event_key < known.event_key:
            found[old, new, at.order] = Transition(
                Status.of(old, terminology) if old is not None else None,
                Status.of(new, terminology),
                at,
                entry.version.order,
                entry.version.event_key,
            )
    return sorted(
        found.values(), key=lambda change: (change.ranked, change.new.rank, change.new.sent, change.event_key)
    )


def status_history(changes: Sequence[Transition]) -> list[HistoryRow]:
    """Return the statuses before the current one (§9.1.1, rules 2 to 4 and 8). A gap ends one row and begins another.

    The row before a gap has no end, the row after it no start.
    """
    rows = []
    if changes and changes[0].old:
        rows.append(HistoryRow(changes[0].old, None, changes[0].at))
    for change, following in pairwise(changes):
        if _gap(change, following):
            rows.append(HistoryRow(change.new, change.at, None))
            rows.append(HistoryRow(following.old or following.new, None, following.at))
        else:
            rows.append(HistoryRow(change.new, change.at, following.at))
    return rows


def transition_flags(changes: Sequence[Transition]) -> Iterator[str]:
    """Return the codes of the flags of a consultation's transitions."""
    if not changes:
        yield "status-not-received"
        return
    statuses = [status for change in changes for status in (change.old, change.new) if status]
    if any(not status.mapped for status in statuses):
        yield "unmapped-status"
    if any(_gap(change, following) for change, following in pairwise(changes)):
        yield "status-gap"
    if _reopened(changes):
        yield "reopened"
    if changes[-1].new.means == CLOSED and all(status.means != LIVE for status in statuses):
        yield "closed-without-in-progress"


def _gap(change: Transition, following: Transition) -> bool:
    """Tell whether the status before a transition is not the one that the transition before it led to."""
    return following.old is not None and following.old.sent != change.new.sent


def _reopened(changes: Sequence[Transition]) -> bool:
    """Tell whether a transition, or two that follow each other, lead out of the closed status (§9.1.1, rule 7)."""
    steps = [(change.old, change.new) for change in changes]
    steps += [(change.new, following.new) for change, following in pairwise(changes)]
    return any(before and before.means == CLOSED != after.means for before, after in steps)
