"""How far the worker is on each raw partition: no record is passed over, and only what is delivered is committed.

Faust commits what it takes for acked, and where partitions come and go it can be wrong: an offset that it dropped on
the way to the agent counts as a gap in the log once a later one comes, and is committed over; before a partition's
first commit it looks for no gap at all; without its compiled streams it even acks what it skips. So all that is known
here, and Faust is told (`streams.faust_transport`):

1. A partition begins where the group has committed, which Kafka itself is asked.
2. The next event must be the next record. Where it is a later one, Kafka is asked for what lies between. Most often
   that is nothing (it is gone by retention, or was a transaction's marker); what there is takes its place in the batch.
3. Where nothing comes although there are records, no event behind them would tell: the worker goes back to them.
4. What may be committed is the offset after the last event that has been delivered, and nothing else.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from config.settings import Settings
from streams.kafka import librdkafka
from streams.records import RawRecord
from streams.scan import Place, Scanner, place_of, raw_record

log = structlog.get_logger("worker")

MOST = 10_000
"""Records that are read for a batch's gaps. More were not lost on Faust's way to the agent: the worker begins anew."""


class PassedOver(Exception):
    """More records than `MOST` never reached the agent. The message names topics and partitions."""


class PositionsUnknown(Exception):
    """Kafka did not say what the group has committed."""


class Positions:
    """The next offset of each raw partition that this process has met since it was given its partitions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assigned: frozenset[Place] = frozenset()
        self._next: dict[Place, int] = {}
        self._delivered: dict[Place, int] = {}
        self._in_hand: set[str] = set()
        """Topics of which a batch is being mapped or delivered."""
        self._behind: dict[Place, int] = {}
        self._asking = asyncio.Lock()

    def assigned(self, places: Iterable[Place]) -> None:
        """What the group has given to this process; where these begin is asked at once, when the first is needed."""
        self._assigned = frozenset(places)

    def revoked(self) -> None:
        """The partitions go away, and nothing is in hand any more: whoever has them next begins where Kafka says."""
        self._assigned = frozenset()
        self._next.clear()
        self._delivered.clear()
        self._behind.clear()

    async def complete(self, raws: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """A batch as it is to be mapped: with all records before or within it that did not come.

        Raises PassedOver, PositionsUnknown, and ConfigurationError where Kafka does not answer.
        """
        self._in_hand.update(raw.topic for raw in raws)
        await self._begin({_place(raw) for raw in raws})
        gaps = self._gaps(raws)
        if not gaps:
            return raws
        missing = await asyncio.to_thread(self._between, raws, gaps)
        for place, records in missing.items():
            shown = {"topic": place[0], "partition": place[1], "first": records[0].offset, "records": len(records)}
            log.warning("records that were passed over are read", **shown)
        whole: list[RawRecord] = []
        for raw in raws:
            due = missing.get(_place(raw))
            while due and due[0].offset < raw.offset:
                whole.append(due.popleft())
            whole.append(raw)
        return whole

    async def standing(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Where to read on: partitions that end (``ends``) behind where we are, as they did at the call before, while
        nothing of their topic was in hand. Raises PositionsUnknown."""
        await self._begin(self._assigned)
        behind = {
            place: due
            for place, due in self._next.items()
            if ends.get(place, 0) > due and place[0] not in self._in_hand
        }
        stood = {place: due for place, due in behind.items() if self._behind.get(place) == due}
        self._behind = behind
        there = await asyncio.to_thread(self._there, stood, ends) if stood else set()
        for place in stood.keys() - there:
            if self._next.get(place) == stood[place]:
                self._next[place] = ends[place]
        return {place: due for place, due in stood.items() if place in there}

    def _there(self, stood: Mapping[Place, int], ends: Mapping[Place, int]) -> set[Place]:
        """Partitions that have a record from their offset on, not only a transaction's marker; for a thread."""
        with Scanner(self._settings) as scanner:
            return {
                place
                for place, due in stood.items()
                if next(scanner.read({place: due}, {place: ends[place]}), None) is not None
            }

    async def _begin(self, needed: Iterable[Place]) -> None:
        """Where partitions begin that nothing is known of yet, all that are assigned at once."""
        async with self._asking:
            if not self._next.keys() >= {*needed}:
                unknown = {*needed, *self._assigned} - self._next.keys()
                self._next |= await asyncio.to_thread(committed, self._settings, unknown)

    def _gaps(self, raws: Iterable[RawRecord]) -> dict[Place, tuple[int, int]]:
        """For each partition in which offsets are missing, the first of these, and the first after the last of them."""
        gaps: dict[Place, tuple[int, int]] = {}
        reached: dict[Place, int] = {}
        for raw in raws:
            place = _place(raw)
            due = reached.get(place, self._next.get(place, raw.offset))
            if raw.offset > due:
                gaps[place] = gaps.get(place, (due,))[0], raw.offset
            reached[place] = max(due, raw.offset + 1)
        return gaps

    def delivered(self, raws: Iterable[RawRecord]) -> None:
        """Everything that follows from these is durable."""
        for raw in raws:
            place = _place(raw)
            self._in_hand.discard(raw.topic)
            if place in self._next:  # else it was forgotten under the batch, and is read again
                self._next[place] = self._delivered[place] = max(self._next[place], raw.offset + 1)

    def committable(self, topic: str, partition: int) -> int | None:
        """The offset to commit; None where nothing has been delivered yet."""
        return self._delivered.get((topic, partition))

    def _between(
        self, raws: Iterable[RawRecord], gaps: Mapping[Place, tuple[int, int]]
    ) -> dict[Place, deque[RawRecord]]:
        """The records that lie in the gaps of a batch, by partition; blocking, for a thread."""
        here = {(_place(raw), raw.offset) for raw in raws}
        vendors = {raw.topic: raw.vendor for raw in raws}
        first = {place: due for place, (due, _) in gaps.items()}
        beyond = {place: end for place, (_, end) in gaps.items()}
        missing: dict[Place, deque[RawRecord]] = {}
        with Scanner(self._settings) as scanner:
            for number, message in enumerate(scanner.read(first, beyond), 1):
                if number > MOST:
                    raise PassedOver(f"{', '.join(f'{topic}/{partition}' for topic, partition in gaps)}")
                place, offset = place_of(message), message.offset()
                if (place, offset) not in here:
                    missing.setdefault(place, deque()).append(raw_record(vendors[place[0]], message))
        return missing


def committed(settings: Settings, places: Iterable[Place]) -> dict[Place, int]:
    """What the group has committed, 0 where nothing; blocking, for a thread. Raises PositionsUnknown."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group, "log_level": 0}))
    try:
        asked = [TopicPartition(*each) for each in places]
        answered = consumer.committed(asked, timeout=settings.session_timeout)
    except KafkaException as error:
        raise PositionsUnknown(f"{settings.group}: {error.args[0].name()}") from None
    finally:
        consumer.close()
    for each in answered:
        if each.error is not None:
            raise PositionsUnknown(f"{settings.group}: {each.topic}/{each.partition}: {each.error.name()}")
    return {(each.topic, each.partition): max(0, each.offset) for each in answered}


def _place(raw: RawRecord) -> Place:
    return raw.topic, raw.partition
