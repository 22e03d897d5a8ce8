"""Find partitions with records that wait while the group that reads them takes none."""

from collections.abc import Iterable
from typing import NamedTuple

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.status.reading import Reading
from fhirline.streams.operate.status.summary import Source

STILL = 60.0
"""Seconds without progress after which a partition counts as stalled. Groups commit every few seconds."""


class Stalled(NamedTuple):
    """Records that a group has taken none of for ``seconds``: the longest of a topic's partitions."""

    topic: str
    group: str
    records: int
    seconds: float


class StallDetector:
    """Compare readings, to find stalled partitions. One without lag counts as moving."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)
        self._moved: dict[tuple[str, TopicPartition], tuple[int, float]] = {}

    def take(self, now: Reading) -> list[Stalled]:
        """Take a reading, and return what has stood still for `STILL` seconds."""
        found = []
        for source in self._sources:
            committed = now.committed.get(source.group, {})
            still = list[tuple[float, int]]()
            for partition, ends in now.ends.items():
                if partition.topic != source.topic:
                    continue
                key, at = (source.group, partition), max(ends.first, committed.get(partition, 0))
                before, since = self._moved.get(key, (-1, now.seconds))
                if at != before or ends.end <= at:
                    since = now.seconds
                self._moved[key] = at, since
                if now.seconds - since >= STILL:
                    still.append((now.seconds - since, ends.end - at))
            if still:
                found.append(Stalled(source.topic, source.group, sum(lag for _, lag in still), max(still)[0]))
        return found
