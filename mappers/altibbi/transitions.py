"""The status changes of a consultation, as remembered, and the history that follows from them (mapping.md §9.1.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fhirline.config.terminology import Terminology
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import StateEntries

REGISTER = "transition "
TABLE = "altibbi-status"
ANY_OTHER_RANK = 2
CLOSED, LIVE, UNKNOWN = "finished", "in-progress", "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """A vendor's status and what it means. ``curated``: the guide's own word, so that the meaning tells it."""

    sent: str
    means: str
    rank: int
    mapped: bool
    curated: bool

    @classmethod
    def of(cls, sent: str, terminology: Terminology) -> "Status":
        row = terminology.row(TABLE, sent)
        if row is None:
            return cls(sent, UNKNOWN, ANY_OTHER_RANK, mapped=False, curated=False)
        return cls(sent, row.means["status"], row.means.get("rank", ANY_OTHER_RANK), True, sent == row.source[0])


@dataclass(frozen=True, slots=True)
class Transition:
    """``old`` → ``new``; ``ranked`` orders it: the instant ``at``, or the receipt where ``at`` is in the future."""

    old: Status | None
    new: Status
    at: Instant
    ranked: tuple[int, str]
    event_key: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``statusHistory``: the status, from when, until when."""

    status: Status
    start: Instant | None
    end: Instant | None


def transitions(registers: StateEntries, terminology: Terminology) -> list[Transition]:
    """T: one entry per distinct (old, new, instant), with the least event key that sent it, in order."""
    found: dict[tuple[str | None, str, tuple[int, str]], Transition] = {}
    for name, entry in registers.items():
        if not name.startswith(REGISTER) or entry.value["new"] is None:
            continue
        old, new, at = entry.value["old"], entry.value["new"], Instant.parse(entry.value["at"])
        assert at is not None  # written by ourselves
        known = found.get((old, new, at.order))
        if known is None or entry.version.event_key < known.event_key:
            found[old, new, at.order] = Transition(
                Status.of(old, terminology) if old is not None else None,
                Status.of(new, terminology),
                at,
                entry.version.order,
                entry.version.event_key,
            )
    return sorted(found.values(), key=lambda each: (each.ranked, each.new.rank, each.new.sent, each.event_key))


def history(changes: Sequence[Transition]) -> list[Row]:
    """Rules 2 to 4, 8: what was before the current status, gaps shown as gaps."""
    rows = []
    if changes and changes[0].old:
        rows.append(Row(changes[0].old, None, changes[0].at))
    for change, following in pairwise(changes):
        if gap(change, following):
            rows.append(Row(change.new, change.at, None))
            rows.append(Row(following.old or following.new, None, following.at))
        else:
            rows.append(Row(change.new, change.at, following.at))
    return rows


def gap(change: Transition, following: Transition) -> bool:
    """Whether the status was another one when it changed again than when it changed last."""
    return following.old is not None and following.old.sent != change.new.sent


def flags(changes: Sequence[Transition]) -> Iterator[str]:
    """What is remarkable about the whole sequence."""
    if not changes:
        yield "status-not-received"
        return
    seen = [status for change in changes for status in (change.old, change.new) if status]
    if any(not status.mapped for status in seen):
        yield "unmapped-status"
    if any(gap(*pair) for pair in pairwise(changes)):
        yield "status-gap"
    left = [(change.old, change.new) for change in changes] + [(a.new, b.new) for a, b in pairwise(changes)]
    if any(before and before.means == CLOSED != after.means for before, after in left):
        yield "reopened"
    if changes[-1].new.means == CLOSED and all(status.means != LIVE for status in seen):
        yield "closed-without-in-progress"
