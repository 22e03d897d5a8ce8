"""How far the worker is on each raw partition: no record is passed over, and only what is delivered is committed.

Faust commits what it takes for acked, and where partitions come and go it can be wrong: an offset that it dropped on
the way to the agent counts as a gap in the log once a later one comes, and is committed over; before a partition's
first commit it looks for no gap at all; without its compiled streams it even acks what it skips. So all that is known
here, and Faust is told (`streams.step2_consume.faust.transport`; faust.md §3.3 to §3.6):

1. A partition begins where the group has committed, which Kafka itself is asked.
2. The next event must be the next record. Where it is a later one, Kafka is asked for what lies between: nothing, where
   a transaction's marker took the offset; what there is takes its place in the batch.
3. Where nothing comes although there are records, no event behind them would tell: the worker goes back to them.
4. What may be committed is the offset after the last event that has been delivered, and nothing else.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.step2_consume.faust.offset_gaps import begins_behind, committed, holding, missing

log = structlog.get_logger("worker")


class Fetched(NamedTuple):
    """Of a partition: up to where records have been fetched, and where it ends as far as fetches have told."""

    position: int
    end: int


class LogEndsBefore(FhirlineError):
    """Partitions end before what has been committed: what comes now would be passed over. The message names them."""


class Positions:
    """The next offset of each raw partition, since this process was given its partitions. For the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._assignment = 0
        self._next: dict[TopicPartition, int] = {}
        self._delivered: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._batches: dict[str, int] = {}
        """By topic, how many batches were begun."""
        self._in_hand: set[str] = set()
        """Topics of which a batch is being mapped or delivered."""
        self._seen: dict[TopicPartition, tuple[int, int]] = {}
        """At the last look, what stood behind its end: the next offset, and the batches of its topic until then."""
        self._short: dict[TopicPartition, int] = {}
        """At the last look, what ended before the next offset."""
        self._empty: dict[TopicPartition, int] = {}
        """Up to where a partition holds no record behind the next offset, only transactions' markers."""
        self._asking = asyncio.Lock()

    def assigned(self, places: Iterable[TopicPartition]) -> None:
        """What the group has given to this process; where these begin is asked at once, when the first is needed."""
        self._assigned = frozenset(places)

    def revoked(self) -> None:
        """The partitions go away, and nothing is in hand any more: whoever has them next begins where Kafka says."""
        self._assigned = frozenset()
        self._assignment += 1
        for each in (self._next, self._delivered, self._committed, self._seen, self._short, self._empty):
            each.clear()

    async def complete(self, raws: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """A batch as it is to be mapped: with all records before or within it that did not come.

        Raises PassedOver, PositionsUnknown, and KafkaAccessError where Kafka does not answer
        (`streams.step2_consume.faust.offset_gaps`).
        """
        for topic in {raw.topic for raw in raws}:
            self._in_hand.add(topic)
            self._batches[topic] = self._batches.get(topic, 0) + 1
        await self._begin({raw.topic_partition for raw in raws})
        gaps = self._gaps(raws)
        if not gaps:
            return raws
        found = await asyncio.to_thread(missing, self._settings, raws, gaps)
        for place, records in found.items():
            shown = {"topic": place[0], "partition": place[1], "first": records[0].offset, "records": len(records)}
            log.warning("records that were passed over are read", **shown)
        due = {place: deque(records) for place, records in found.items()}
        whole: list[ConsumerRecord] = []
        for raw in raws:
            before = due.get(raw.topic_partition)
            while before and before[0].offset < raw.offset:
                whole.append(before.popleft())
            whole.append(raw)
        return whole

    def delivered(self, raws: Iterable[ConsumerRecord]) -> None:
        """Everything that follows from these is durable."""
        for raw in raws:
            place, after = raw.topic_partition, raw.offset + 1
            self._in_hand.discard(raw.topic)
            if place in self._next:  # else it was forgotten under the batch, and is read again
                self._next[place] = max(self._next[place], after)
                self._delivered[place] = max(self._delivered.get(place, 0), after)

    def committable(self, place: TopicPartition) -> int | None:
        """The offset to commit; None where nothing has been delivered that is not committed."""
        after = self._delivered.get(place, 0)
        return after if after > self._committed.get(place, 0) else None

    def to_commit(self) -> list[TopicPartition]:
        """Partitions of which something is to be committed."""
        return [place for place in self._delivered if self.committable(place) is not None]

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Kafka has taken these."""
        self._committed.update(offsets)

    async def standing(self, fetched: Mapping[TopicPartition, Fetched]) -> dict[TopicPartition, int]:
        """Where to read on: partitions of which records were fetched that never came, and that there are.

        Where it was so at the call before too, and no batch of the topic was there between the two. Raises
        PositionsUnknown, KafkaAccessError, and LogEndsBefore, each of which may be the cluster's passing state.
        """
        assignment = self._assignment
        await self._begin(self._assigned)
        await self._raise_if_short({place: at.end for place, at in fetched.items()})
        seen = {
            place: (due, self._batches.get(place[0], 0))
            for place, due in self._next.items()
            if place in fetched
            and fetched[place].end > max(due, self._empty.get(place, 0))
            and fetched[place].position > due  # else it has only to wait until it is fetched
            and place[0] not in self._in_hand
        }
        stood = {place: at[0] for place, at in seen.items() if self._seen.get(place) == at}
        self._seen = seen
        ends = {place: fetched[place].end for place in stood}
        there = await asyncio.to_thread(holding, self._settings, stood, ends) if stood else set()
        if assignment != self._assignment:
            return {}
        self._empty |= {place: ends[place] for place in stood.keys() - there}
        still = (place for place in there if self._next.get(place) == stood[place] and place[0] not in self._in_hand)
        return {place: stood[place] for place in still}

    async def _raise_if_short(self, ends: Mapping[TopicPartition, int]) -> None:
        """A log that was cut off, or made anew, below what is committed. Where it was so at the look before too."""
        short = {place: due for place, due in self._next.items() if 0 < ends.get(place, 0) < due}
        stood = {place: due for place, due in short.items() if self._short.get(place) == due}
        self._short = short
        if stood and (cut := await asyncio.to_thread(begins_behind, self._settings, stood)):
            raise LogEndsBefore(", ".join(f"{topic}/{partition} before {at}" for (topic, partition), at in cut.items()))

    async def _begin(self, needed: Iterable[TopicPartition]) -> None:
        """Where partitions begin that nothing is known of yet, all that are assigned at once."""
        async with self._asking:
            if self._next.keys() >= {*needed}:
                return
            assignment = self._assignment
            found = await asyncio.to_thread(committed, self._settings, {*needed, *self._assigned} - self._next.keys())
            if assignment == self._assignment:
                self._next |= found
                self._committed |= found

    def _gaps(self, raws: Iterable[ConsumerRecord]) -> dict[TopicPartition, tuple[int, int]]:
        """For each partition in which offsets are missing, the first of these, and the first after the last of them."""
        gaps: dict[TopicPartition, tuple[int, int]] = {}
        reached: dict[TopicPartition, int] = {}
        for raw in raws:
            place = raw.topic_partition
            due = reached.get(place, self._next.get(place, raw.offset))
            if raw.offset > due:
                gaps[place] = gaps.get(place, (due,))[0], raw.offset
            reached[place] = max(due, raw.offset + 1)
        return gaps
