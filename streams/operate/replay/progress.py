"""Telling of a replay: a progress bar on a terminal, plain lines without one, and what it has come to in the end."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, Self

from fhirline.streams.operate.replay.compare import Kind, Report, Tally
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.offset_ranges import Span
from fhirline.streams.operate.replay.publish import ROUNDS, Published
from fhirline.streams.operate.replay.remap import Step
from fhirline.topics.declared import RESOURCE_TYPES

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_SECONDS = 5.0
PATHS = 10
"""Of a type, how many paths are printed; ``--diff-out`` has all."""


class Teller(Protocol):
    """Who is told of a run as it goes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def spans(self, spans: Iterable[Span]) -> None: ...

    def phase(self, name: str) -> None: ...

    def held(self, records: int) -> None: ...

    def step(self, step: Step) -> None: ...

    def published(self, records: int) -> None: ...

    def close(self) -> None: ...


def teller() -> Teller:
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    """A line at each turn, and every five seconds, on standard error."""

    def __init__(self) -> None:
        self._ends: dict[str, Span] = {}
        self._at: dict[str, int] = {}
        self._events = self._held = self._published = 0
        self._began = self._said = time.monotonic()
        self._mapping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def spans(self, spans: Iterable[Span]) -> None:
        self._ends = {each.source: each for each in spans}
        offsets = sum(each.end - each.start for each in self._ends.values())
        self._say(f"{offsets:,} raw records in {len(self._ends)} partitions")

    def phase(self, name: str) -> None:
        self._say(name)

    def held(self, records: int) -> None:
        self._held += records
        self._now_and_then(f"{self._held:,} canonical records read")

    def step(self, step: Step) -> None:
        if not self._mapping:
            self._mapping, self._began = True, time.monotonic()
        self._at[step.source] = step.offset
        self._events += step.events
        if (span := self._ends.get(step.source)) and step.offset == span.end:
            self._say(f"{step.source} done")
        left = sum(max(0, span.end - self._at.get(name, span.start)) for name, span in self._ends.items())
        rate = self._events / max(time.monotonic() - self._began, 0.001)
        behind = ", ".join(
            f"{name} at {at} of {self._ends[name].end}" for name, at in self._at.items() if name in self._ends
        )
        self._now_and_then(
            f"{self._events:,} events mapped, {rate:,.0f}/s, {left / max(rate, 1):,.0f} s to go; {behind}"
        )

    def published(self, records: int) -> None:
        self._published += records
        self._now_and_then(f"{self._published:,} records published")

    def _now_and_then(self, line: str) -> None:
        if time.monotonic() - self._said > LINE_SECONDS:
            self._say(line)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._said = time.monotonic()


class Bars:
    """One bar for all, with rate and time to go, and one a partition that is being mapped."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True))
        self._all = self._bar.add_task("reading canonical topics", total=None, rate="")
        self._tasks: dict[str, tuple[Span, TaskID | None]] = {}
        self._began: float | None = None
        self._events = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bar.stop()

    def spans(self, spans: Iterable[Span]) -> None:
        self._tasks = {each.source: (each, None) for each in spans}

    def phase(self, name: str) -> None:
        self._bar.reset(self._all, description=name, total=None, rate="")

    def held(self, records: int) -> None:
        self._bar.advance(self._all, records)

    published = held

    def step(self, step: Step) -> None:
        if self._began is None:
            self._began = time.monotonic()
            total = sum(span.end - span.start for span, _ in self._tasks.values())
            self._bar.reset(self._all, description="all", total=total)
        if step.source not in self._tasks:
            return
        span, task = self._tasks[step.source]
        if task is None:
            task = self._bar.add_task(step.source, total=span.end - span.start, rate="")
            self._tasks[step.source] = (span, task)
        self._events += step.events
        self._bar.update(task, completed=step.offset - span.start, visible=step.offset < span.end)
        done = sum(self._bar.tasks[each].completed for _, each in self._tasks.values() if each is not None)
        rate = self._events / max(time.monotonic() - self._began, 0.001)
        self._bar.update(self._all, completed=done, rate=f"{rate:,.0f} events/s")


def show(report: Report, journals: Mapping[str, Journal]) -> bool:
    """Print a comparison: a row a resource type, then what changed in it; whether events failed. No patient data."""
    kinds = (Kind.SAME, Kind.CHANGED, Kind.NEW, Kind.GONE, Kind.BY_VERSION, Kind.KEPT)
    rows = [
        (name, *(f"{report.types[name].kinds[kind]:,}" for kind in kinds))
        for name in RESOURCE_TYPES
        if name in report.types
    ]
    _table(("", *kinds), [*rows, ("all", *(f"{report.total(kind):,}" for kind in kinds))])
    for name in RESOURCE_TYPES:
        if (tally := report.types.get(name)) and (tally.examples or tally.paths):
            _changes(name, tally)
    if report.total(Kind.BY_VERSION):
        print("\nby version: differs in the mapper's Device alone, as it must where the mapping version has changed")
    if report.total(Kind.KEPT):
        print("\nkept: held by a later event, or by another partition's; no replay of this range changes it")
    return _failures(journals)


def _changes(name: str, tally: Tally) -> None:
    print(f"\n{name}")
    for path, count in tally.paths.most_common(PATHS):
        print(f"  {count:>9,} x {path}")
    if len(tally.paths) > PATHS:
        print(f"  and {len(tally.paths) - PATHS} more paths")
    for each in tally.examples:
        print(f"  {each.kind}: {each.key} from {each.raw}{': ' if each.paths else ''}{', '.join(each.paths[:PATHS])}")


def show_published(published: Published, journals: Mapping[str, Journal]) -> bool:
    """Print what went out; whether anything is left to do."""
    print(
        f"{published.records:,} records and {published.tombstones:,} tombstones published, {published.registers:,} "
        f"registers of state; {published.restored:,} records of live events put back"
    )
    if published.too_large:
        print(f"{published.too_large:,} records are larger than Kafka takes (FHIRLINE_MESSAGE_MAX_BYTES)")
    if published.unsettled:
        print(f"not settled after {ROUNDS} rounds: live events go on changing the same keys; run it again")
    return bool(_failures(journals) or published.too_large or published.unsettled)


def _failures(journals: Mapping[str, Journal]) -> bool:
    failed: Counter[str] = Counter()
    for journal in journals.values():
        failed.update(dict(journal.failures()))
    events = sum(journal.events for journal in journals.values())
    shown = ", ".join(f"{count:,} x {code}" for code, count in sorted(failed.items()))
    print(f"\n{events:,} events mapped" + (f"; failed: {shown} (their records were left alone)" if failed else ""))
    return bool(failed)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*head[:1], box=None)
        for name in head[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for first, *others in [head, *rows]:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))
