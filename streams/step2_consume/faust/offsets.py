"""The worker's position in each raw partition: no record is skipped, and only delivered ones are committed.

Faust commits the offsets that it takes for acknowledged, and around rebalances it can be wrong. A record that it drops
between fetch and agent counts as a gap in the log once a later record comes, and is committed over. Before a
partition's first commit it does not look for gaps. Without its compiled streams it acknowledges what it skips. So
`Positions` keeps its own account, and `streams.step2_consume.faust.transport` makes Faust commit by it
(faust.md §3.3 to §3.6):

1. A partition begins at the offset that the group has committed, as Kafka itself reports it.
2. The next event must be the next record. Where a later one comes, the records between are read from Kafka and put in
   their places. There are none where the offset belongs to a transaction's marker.
3. Where records were fetched, none reached the agent and none come behind them, the worker seeks back to the first.
4. The offset to commit is the one after the last event that has been delivered, and no other.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.step2_consume.faust.offset_gaps import (
    Committed,
    committed_offsets,
    partitions_with_records,
    read_gaps,
    truncated_partitions,
)

log = structlog.get_logger("worker")


class Fetched(NamedTuple):
    """The offset up to which a partition has been fetched, and its end as of the last fetch."""

    position: int
    end: int


class LogTruncated(FhirlineError):
    """Partitions end before the committed offset, so that new records would be skipped. The message names them."""


class Positions:
    """The next offset of each raw partition in this assignment. For the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._assignments = 0
        """Counts assignments, so that an answer that arrives after its assignment ended is not used."""
        self._next: dict[TopicPartition, int] = {}
        self._delivered: dict[TopicPartition, int] = {}
        """The offset after the last delivered record."""
        self._committed: dict[TopicPartition, int] = {}
        self._found: dict[TopicPartition, Committed] = {}
        """Offsets and metadata that the group had committed when the assignment began."""
        self._batches: dict[str, int] = {}
        """The number of batches begun, by topic."""
        self._busy_topics: set[str] = set()
        """Topics that have a batch being mapped or delivered."""
        self._waiting: dict[TopicPartition, tuple[int, int]] = {}
        """At the last check, partitions with fetched records that had not come: next offset, batches of the topic."""
        self._short: dict[TopicPartition, int] = {}
        """At the last check, partitions that ended before the next offset."""
        self._markers_until: dict[TopicPartition, int] = {}
        """Offsets before which a partition has only transactions' markers from the next offset on."""
        self._loading = asyncio.Lock()

    def on_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin an assignment. The offsets at which its partitions begin are asked for when one of them is needed."""
        self._assigned = frozenset(partitions)

    def on_revoked(self) -> None:
        """End the assignment. Its batches are done, and the next owner begins at the committed offsets."""
        self._assigned = frozenset()
        self._assignments += 1
        self._found.clear()
        for offsets in (self._next, self._delivered, self._committed, self._waiting, self._short, self._markers_until):
            offsets.clear()

    async def fill_gaps(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Return a batch with every record before or within it that did not come, in its place.

        Raises GapTooLarge, PositionsUnknown, and KafkaAccessError where Kafka does not answer.
        """
        for topic in {record.topic for record in records}:
            self._busy_topics.add(topic)
            self._batches[topic] = self._batches.get(topic, 0) + 1
        await self._load_committed({record.topic_partition for record in records})
        gaps = self._gaps(records)
        if not gaps:
            return records
        found = await asyncio.to_thread(read_gaps, self._settings, records, gaps)
        for partition, missing in found.items():
            shown = {"topic": partition.topic, "partition": partition.partition}
            log.warning(
                "records that were passed over are read", **shown, first=missing[0].offset, records=len(missing)
            )
        queues = {partition: deque(missing) for partition, missing in found.items()}
        filled: list[ConsumerRecord] = []
        for record in records:
            queue = queues.get(record.topic_partition)
            while queue and queue[0].offset < record.offset:
                filled.append(queue.popleft())
            filled.append(record)
        return filled

    def mark_delivered(self, records: Iterable[ConsumerRecord]) -> None:
        """Record that everything that follows from these records is durable."""
        for record in records:
            partition, after = record.topic_partition, record.offset + 1
            if partition in self._next:  # otherwise it was revoked under the batch, and its next owner repeats it
                self._next[partition] = max(self._next[partition], after)
                self._delivered[partition] = max(self._delivered.get(partition, 0), after)

    def end_batch(self, records: Iterable[ConsumerRecord]) -> None:
        """Record that a batch is delivered. Until then, records that a partition waits for may be in the batch."""
        self._busy_topics.difference_update({record.topic for record in records})

    def markable(self, partition: TopicPartition, offset: int) -> bool:
        """Return whether a mark may be committed at an offset: not before what is committed or delivered already."""
        return partition in self._next and offset >= max(self._committed.get(partition, 0), self._next[partition])

    def committable(self, partition: TopicPartition) -> int | None:
        """Return the offset to commit; None where nothing has been delivered since the last commit."""
        after = self._delivered.get(partition, 0)
        return after if after > self._committed.get(partition, 0) else None

    def partitions_to_commit(self) -> list[TopicPartition]:
        """Return the partitions that have an offset to commit."""
        return [partition for partition in self._delivered if self.committable(partition) is not None]

    def found(self, partition: TopicPartition) -> Committed | None:
        """Return what the group had committed when the assignment began; None for a partition that was revoked."""
        return self._found.get(partition)

    def mark_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Record that Kafka has accepted these offsets."""
        self._committed.update(offsets)

    async def stalled(self, fetched: Mapping[TopicPartition, Fetched]) -> dict[TopicPartition, int]:
        """Return the offsets to seek back to: partitions whose fetched records never came although Kafka has them.

        A partition counts only where the previous call saw the same, with no batch of its topic in between.

        Raises PositionsUnknown and KafkaAccessError, which may pass with the cluster's state, and LogTruncated.
        """
        assignments = self._assignments
        await self._load_committed(self._assigned)
        await self._raise_if_truncated({partition: state.end for partition, state in fetched.items()})
        waiting = {
            partition: (due, self._batches.get(partition.topic, 0))
            for partition, due in self._next.items()
            if partition in fetched
            and fetched[partition].end > max(due, self._markers_until.get(partition, 0))
            and fetched[partition].position > due  # otherwise it has not been fetched yet
            and partition.topic not in self._busy_topics
        }
        unchanged = {partition: seen[0] for partition, seen in waiting.items() if self._waiting.get(partition) == seen}
        self._waiting = waiting
        if not unchanged:
            return {}
        ends = {partition: fetched[partition].end for partition in unchanged}
        confirmed = await asyncio.to_thread(partitions_with_records, self._settings, unchanged, ends)
        if assignments != self._assignments:
            return {}
        self._markers_until |= {partition: ends[partition] for partition in unchanged.keys() - confirmed}
        return {
            partition: unchanged[partition]
            for partition in confirmed
            if self._next.get(partition) == unchanged[partition] and partition.topic not in self._busy_topics
        }

    async def _raise_if_truncated(self, ends: Mapping[TopicPartition, int]) -> None:
        """Raise LogTruncated where a log ends below the next offset, twice in a row, and Kafka confirms it."""
        short = {partition: due for partition, due in self._next.items() if 0 < ends.get(partition, 0) < due}
        unchanged = {partition: due for partition, due in short.items() if self._short.get(partition) == due}
        self._short = short
        if not unchanged:
            return
        if cut := await asyncio.to_thread(truncated_partitions, self._settings, unchanged):
            raise LogTruncated(", ".join(f"{partition} before {offset}" for partition, offset in cut.items()))

    async def _load_committed(self, needed: Iterable[TopicPartition]) -> None:
        """Ask Kafka where the needed partitions begin, and with them all others that are assigned and not known."""
        async with self._loading:
            if self._next.keys() >= {*needed}:
                return
            assignments = self._assignments
            unknown = {*needed, *self._assigned} - self._next.keys()
            found = await asyncio.to_thread(committed_offsets, self._settings, unknown)
            if assignments == self._assignments:
                self._found |= found
                self._next |= {partition: committed.offset for partition, committed in found.items()}
                self._committed |= {partition: committed.offset for partition, committed in found.items()}

    def _gaps(self, records: Iterable[ConsumerRecord]) -> dict[TopicPartition, tuple[int, int]]:
        """Return, by partition, the first missing offset and the offset of the record behind the last missing one."""
        gaps: dict[TopicPartition, tuple[int, int]] = {}
        reached: dict[TopicPartition, int] = {}
        for record in records:
            partition = record.topic_partition
            due = reached.get(partition, self._next.get(partition, record.offset))
            if record.offset > due:
                gaps[partition] = gaps.get(partition, (due,))[0], record.offset
            reached[partition] = max(due, record.offset + 1)
        return gaps
