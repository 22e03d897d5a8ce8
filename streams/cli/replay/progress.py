"""A replay's progress, printed."""

import time
from collections.abc import Iterable

from fhirline.streams.cli.output import ProgressReporter as Output
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.progress import ProgressReporter
from fhirline.streams.operate.replay.remap import Step

INDEXING = "reading canonical topics"
MAPPING = "mapping"
PUBLISHING = "publishing"


class RunProgress(ProgressReporter):
    """Prints how far a run is: in all, with its rate, and for each partition that is being mapped."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._ranges: dict[str, OffsetRange] = {}
        self._offsets: dict[str, int] = {}
        self._events = self._indexed = self._published = 0
        self._began: float | None = None

    def ranges(self, ranges: Iterable[OffsetRange]) -> None:
        self._ranges = {offset_range.source: offset_range for offset_range in ranges}
        self._output.message(f"{counted(self._total, 'raw record')} in {counted(len(self._ranges), 'partition')}")

    def indexed(self, records: int) -> None:
        self._indexed += records
        self._output.show(INDEXING, self._indexed)

    def mapped(self, step: Step) -> None:
        if self._began is None:
            self._began = time.monotonic()
            self._output.end(INDEXING)
        if (offset_range := self._ranges.get(step.source)) is None:
            return
        self._events += step.events
        self._offsets[step.source] = step.offset
        done = sum(
            min(offset, self._ranges[name].end) - self._ranges[name].start for name, offset in self._offsets.items()
        )
        rate = self._events / max(time.monotonic() - self._began, 0.001)
        self._output.show(MAPPING, done, self._total, f"{rate:,.0f} events/s")
        if step.offset < offset_range.end:
            self._output.show(step.source, step.offset - offset_range.start, offset_range.length)
        elif step.offset == offset_range.end:
            self._output.end(step.source, announce=True)

    def comparing(self) -> None:
        self._output.end(MAPPING)
        self._output.begin("comparing")

    def publishing(self) -> None:
        self._output.end(MAPPING)
        self._output.begin(PUBLISHING)

    def published(self, records: int) -> None:
        self._published += records
        self._output.show(PUBLISHING, self._published)

    @property
    def _total(self) -> int:
        return sum(offset_range.length for offset_range in self._ranges.values())
