"""The progress of a run. A command prints it; by default nothing is printed."""

from collections.abc import Iterable

from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.remap import Step


class ProgressReporter:
    """Receives a run's progress and ignores it."""

    def ranges(self, ranges: Iterable[OffsetRange]) -> None:
        """Take the ranges that will be mapped."""

    def indexed(self, records: int) -> None:
        """Count canonical records that were indexed."""

    def mapped(self, step: Step) -> None:
        """Take a partition's progress."""

    def comparing(self) -> None:
        """Begin the comparison."""

    def publishing(self) -> None:
        """Begin to publish."""

    def published(self, records: int) -> None:
        """Count records that were published."""
