"""The final report of a run: rows and lines for people, without patient data."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.replay.difference import Kind
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.publish import ROUNDS, Published
from fhirline.streams.operate.replay.report import Report, Tally
from fhirline.topics.declared import RESOURCE_TYPES

PATHS = 10
"""Paths that are shown per resource type; ``--diff-out`` has all."""

COLUMNS = ("resource type", *(kind.value for kind in Kind))


def rows(report: Report) -> Iterator[Sequence[str | int]]:
    """Make a row per resource type, and one for all."""
    for name in RESOURCE_TYPES:
        if tally := report.types.get(name):
            yield (name, *(tally.kinds[kind] for kind in Kind))
    yield ("all", *(report.total(kind) for kind in Kind))


def change_lines(report: Report) -> Iterator[str]:
    """Describe what changed in each resource type."""
    for name in RESOURCE_TYPES:
        if (tally := report.types.get(name)) and (tally.examples or tally.paths):
            yield from _changes(name, tally)
    if report.total(Kind.BY_VERSION):
        yield "\nby version: differs in the mapper's Device alone, because the mapping version has changed"
    if report.total(Kind.KEPT):
        yield "\nkept: written by a later event, or by an event of another partition; a replay of this range keeps it"


def published_lines(published: Published) -> Iterator[str]:
    """Describe what was published."""
    yield (
        f"{counted(published.records, 'record')} and {counted(published.tombstones, 'tombstone')} published, "
        f"{counted(published.state_entries, 'state entry', 'state entries')}; "
        f"{counted(published.restored, 'record')} of live events written again"
    )
    if published.too_large:
        are = "is" if published.too_large == 1 else "are"
        yield f"{counted(published.too_large, 'record')} {are} larger than Kafka takes (FHIRLINE_MESSAGE_MAX_BYTES)"
    if published.unsettled:
        yield f"not settled after {ROUNDS} rounds: live events keep changing the same keys; run it again"


def failures(journals: Iterable[Journal]) -> Mapping[str, int]:
    """Count the events that could not be mapped, by error code."""
    failed: Counter[str] = Counter()
    for journal in journals:
        failed.update(dict(journal.failures()))
    return failed


def events_line(journals: Collection[Journal], failed: Mapping[str, int]) -> str:
    """State how many events were mapped, how many of erased patients were passed over, and how many failed."""
    parts = [f"{counted(sum(journal.events for journal in journals), 'event')} mapped"]
    if erased := sum(journal.erased for journal in journals):
        parts.append(f"{erased:,} of erased patients passed over")
    if failed:
        counts = ", ".join(f"{count:,} x {code}" for code, count in sorted(failed.items()))
        parts.append(f"failed: {counts} (their records were not changed)")
    return "; ".join(parts)


def _changes(name: str, tally: Tally) -> Iterator[str]:
    yield f"\n{name}"
    for path, count in tally.paths.most_common(PATHS):
        yield f"  {count:>9,} x {path}"
    if (more := len(tally.paths) - PATHS) > 0:
        yield f"  and {counted(more, 'more path')}"
    for example in tally.examples:
        paths = f": {', '.join(example.paths[:PATHS])}" if example.paths else ""
        yield f"  {example.kind}: {example.key} from {example.raw}{paths}"
