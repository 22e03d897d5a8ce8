"""Events that were begun and never finished: no event ends the worker over and over.

An event over whose mapping the process dies (killed for its memory, crashed in a library, stopped by the fence) leaves
no exception to catch. Its offset is not committed, so that the next owner of the partition meets it again. `Unfinished`
keeps a mark in Kafka, in the metadata of the group's committed offset, where it survives the process:

1. Before an assignment's first batch of a partition is mapped, its committed offset is committed again, with a mark. A
   commit of Faust's, which has made progress, carries no mark and so removes it.
2. An owner that finds a mark is careful for `CAREFUL` events: it maps one event at a time, and commits the event's own
   offset with its number of attempts before it does. Once the event is mapped, the attempt no longer counts, so that an
   outage of Kafka while its records are delivered is not held against it.
3. An event that has ended `ATTEMPTS` processes is not mapped again. It becomes a dead letter ``worker-ended``, and the
   partition continues behind it.

No offset is committed here beyond the delivered events: rule 1 of `streams.step2_consume.app` holds.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.step2_consume.faust.offset_gaps import Committed

log = structlog.get_logger("worker")

ATTEMPTS = 3
"""Processes that one event may end."""

CAREFUL = 1_000
"""Events of a partition that are mapped one at a time after a process has ended over it: more than two batches."""

_MARK = re.compile(r"fhirline-begun:(\d{1,9});", re.ASCII)
"""The text ends with a semicolon and a zero byte. The client that reads it takes a C string: without the zero it
returns whatever bytes follow in memory, or raises UnicodeDecodeError on them."""


class Mark(NamedTuple):
    """A mark on a committed offset. ``attempts``: processes that began the event at the offset and did not map it."""

    attempts: int = 0

    @property
    def text(self) -> str:
        """Return the mark as Kafka keeps it.

        >>> Mark.read(Mark(2).text), Mark.read(Mark().text), Mark.read("")
        (Mark(attempts=2), Mark(attempts=0), None)
        """
        return f"fhirline-begun:{self.attempts};\0"

    @staticmethod
    def read(metadata: str | None) -> "Mark | None":
        """Read the metadata of a committed offset. None where it is not a mark."""
        found = _MARK.match(metadata or "")
        return Mark(int(found[1])) if found else None


Commit = Callable[[Mapping[TopicPartition, Committed]], Awaitable[None]]
"""Commits offsets with marks. A partition that is no longer assigned is left out without an error."""


class Unfinished:
    """The marks of this assignment's partitions. For the event loop only."""

    def __init__(self, found: Callable[[TopicPartition], Committed | None], commit: Commit) -> None:
        """Make the marks of this process's partitions.

        ``found`` returns what the group had committed when the assignment began; None without an assignment.
        """
        self._found = found
        self._commit = commit
        self._begun: set[TopicPartition] = set()
        self._careful: dict[TopicPartition, int] = {}
        """The number of events that are still to be mapped one at a time."""

    def on_revoked(self) -> None:
        """Forget the assignment."""
        self._begun.clear()
        self._careful.clear()

    def parts(self, records: Sequence[ConsumerRecord]) -> Iterator[Sequence[ConsumerRecord]]:
        """Split a batch, whose partitions' committed offsets are known, into what may be mapped at once."""
        for partition in {record.topic_partition for record in records} - self._begun - self._careful.keys():
            if self._mark(partition) is not None:
                self._careful[partition] = CAREFUL
                log.warning("events are mapped one at a time: a process ended over one", raw=str(partition))
        # Both lists are made now: a partition may stop being careful, or be revoked, before the last part is taken.
        together = [record for record in records if record.topic_partition not in self._careful]
        alone = [record for record in records if record.topic_partition in self._careful]
        if together:
            yield together
        yield from ([record] for record in alone)

    @asynccontextmanager
    async def attempt(self, part: Sequence[ConsumerRecord]) -> AsyncIterator[bool]:
        """Mark a part of `parts` as begun while it is mapped. Yield whether it is to be given up instead."""
        partition = part[0].topic_partition
        if partition in self._careful:
            async with self._attempt_one(part[0]) as give_up:
                yield give_up
            self._count_careful(partition)
            return
        if new := {record.topic_partition for record in part} - self._begun:
            self._begun |= new
            found = {item: committed for item in new if (committed := self._found(item)) is not None}
            await self._commit({item: Committed(committed.offset, Mark().text) for item, committed in found.items()})
        yield False

    def _count_careful(self, partition: TopicPartition) -> None:
        """Count an event that was mapped by itself. The partition may have been revoked meanwhile."""
        if partition not in self._careful:
            return
        self._careful[partition] -= 1
        if not self._careful[partition]:
            del self._careful[partition]
            self._begun.add(partition)

    @asynccontextmanager
    async def _attempt_one(self, record: ConsumerRecord) -> AsyncIterator[bool]:
        partition, offset = record.topic_partition, record.offset
        found = self._found(partition)
        mark = self._mark(partition) if found is not None and found.offset == offset else None
        attempts = mark.attempts if mark else 0
        if attempts >= ATTEMPTS:
            log.error("event given up: processes ended over it", raw=str(record.position), attempts=attempts)
            yield True
            return
        await self._commit({partition: Committed(offset, Mark(attempts + 1).text)})
        yield False
        await self._commit({partition: Committed(offset, Mark(attempts).text)})

    def _mark(self, partition: TopicPartition) -> Mark | None:
        """Return the mark that the assignment began with."""
        found = self._found(partition)
        return Mark.read(found.metadata) if found is not None else None
