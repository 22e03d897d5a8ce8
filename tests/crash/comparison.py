"""Compares canonical topics and dead letters with what one undisturbed run over the raw topics makes."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import confluent_kafka
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.topics.declared import (
    CONTRIBUTIONS,
    ENRICHED,
    canonical_topic,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
)
from tests.support.messages import header_of
from tests.support.waiting import LIMIT
from tests.support.workload import Store, undisturbed


@contextmanager
def _consumer(settings: Settings, group: str = "comparison") -> Iterator[Consumer]:
    consumer = Consumer(
        librdkafka(
            settings, **{"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
        )
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topics: Iterable[str]) -> list[confluent_kafka.TopicPartition]:
    known = consumer.list_topics(timeout=30).topics
    return [
        confluent_kafka.TopicPartition(topic, partition, OFFSET_BEGINNING)
        for topic in topics
        for partition in known[topic].partitions
    ]


def read_all(settings: Settings, topics: Iterable[str]) -> Iterator[Message]:
    """Yield every record of the topics, each partition to its end. Sealed ones are opened."""
    with _consumer(settings) as consumer, closing(Opener(settings)) as opener:
        consumer.assign(partitions := _partitions(consumer, topics))
        left = len(partitions)
        while left:
            first = consumer.poll(LIMIT)
            assert first is not None, f"{left} partitions were not read to their end"
            for message in (first, *consumer.consume(5_000, 0)):
                if (error := message.error()) is None:
                    opened = opener.open_message(message)
                    assert opened is not None, "nobody is erased here"
                    yield opened
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
                else:
                    assert error.retriable(), error


def raw_topics(settings: Settings) -> list[str]:
    """Return the topics that are mapped: of webhooks, and of what the enrichment makes of them."""
    vendors = load_vendors(settings.vendors_file).names
    return [*map(raw_topic, vendors), *(enriched_topic(vendor) for vendor in vendors if vendor in ENRICHED)]


def read_topics(settings: Settings) -> list[str]:
    return [*raw_topics(settings), CONTRIBUTIONS]


def raw_records(settings: Settings) -> Iterator[ConsumerRecord]:
    """Yield the records of the raw topics, each partition in its order."""
    for message in read_all(settings, raw_topics(settings)):
        yield from_confluent(message)


def committed(settings: Settings) -> dict[TopicPartition, int]:
    """Return the group's committed offsets on the topics that workers read; 0 where it has none."""
    with _consumer(settings, settings.group) as consumer:
        answers = consumer.committed(_partitions(consumer, read_topics(settings)), timeout=30)
        return {TopicPartition(answer.topic, answer.partition): max(0, answer.offset) for answer in answers}


def ends(settings: Settings, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return end offsets, exact on Apache Kafka only (faust.md §6)."""
    with _consumer(settings) as consumer:
        return {
            TopicPartition(asked.topic, asked.partition): consumer.get_watermark_offsets(asked, timeout=30)[1]
            for asked in _partitions(consumer, topics)
        }


def written(settings: Settings) -> int:
    """Return how many events have been mapped: each has a Provenance."""
    return sum(ends(settings, [canonical_topic("Provenance")]).values())


def wait_for_progress(settings: Settings, records: int) -> None:
    """Wait until the group has mapped that many more events."""
    wait_until(lambda: settled(lambda: written(settings)), lambda now, first: now >= first + records)


def wait_drained(settings: Settings) -> None:
    """Wait until the group's lag is 0."""
    wait_until(lambda: settled(lambda: lag(settings)), lambda now, _: now == 0)


def lag(settings: Settings) -> int:
    """Return how many records the group has not committed.

    Ends are asked for after what is committed: a contribution is written before its raw record's offset is committed.
    """
    done = committed(settings)
    return sum(end - done[partition] for partition, end in ends(settings, read_topics(settings)).items())


def settled(ask: Callable[[], int]) -> int | None:
    """Return the answer, or None where the cluster does not answer just now."""
    try:
        return ask()
    except KafkaException:
        return None


def wait_until(ask: Callable[[], int | None], reached: Callable[[int, int], bool]) -> None:
    """Wait until ``reached(now, first)``. Fails where the figure has not changed for too long."""
    first = last = None
    moved = time.monotonic()
    while True:
        now = ask()
        if now is not None:
            first = now if first is None else first
            if reached(now, first):
                return
            if now != last:
                last, moved = now, time.monotonic()
        assert time.monotonic() - moved < LIMIT, f"stuck at {last}, began at {first}"
        time.sleep(0.1)


class Topics(Store):
    """The workload's store, which also counts records that were written again for the same raw record."""

    def __post_init__(self) -> None:
        self._seen: set[int] = set()
        self.again = 0
        super().__post_init__()

    def read_to_the_end(self) -> None:
        self._seen.clear()
        self.again = 0
        super().read_to_the_end()

    def _take(self, message: Message) -> None:
        super()._take(message)
        if message.error() is None:
            cause = hash((message.topic(), message.key(), header_of(message, "raw")))
            self.again += cause in self._seen
            self._seen.add(cause)


@dataclass(frozen=True)
class Comparison:
    """A scenario's figures. ``letters``: raw records with a dead letter (expected, missing, unexpected)."""

    events: int
    keys: int
    missing: list[str]
    differing: list[str]
    unexpected: list[str]
    letters: tuple[int, int, int]
    transitions: tuple[int, int]
    records: int
    again: int

    @property
    def whole(self) -> bool:
        _, missing, unexpected = self.letters
        said, found = self.transitions
        nothing = not (self.missing or self.differing or self.unexpected)
        return nothing and not missing and not unexpected and said == found

    def __str__(self) -> str:
        expected, missing, unexpected = self.letters
        said, found = self.transitions
        shown = (*self.missing[:3], *self.differing[:3], *self.unexpected[:3])
        return (
            f"{self.events} raw events: {self.keys} keys expected, {len(self.missing)} missing, "
            f"{len(self.differing)} differing, {len(self.unexpected)} unexpected; {expected} dead letters expected, "
            f"{missing} missing, {unexpected} unexpected; {said} status history rows expected, {found} found; "
            f"{self.records} records written, {self.again} of them again for the same raw record"
            + "".join(f"\n    {name}" for name in shown)
        )


def compare(settings: Settings) -> Comparison:
    """Compare the topics with what one undisturbed run over the raw topics makes. Only after `wait_drained`."""
    dead: set[str] = set()
    events = 0

    def seen(raw: ConsumerRecord, followed: MappedEvent) -> None:
        nonlocal events
        events += 1
        if any(record.topic == dead_letter_topic(raw.vendor) for record in followed.records):
            dead.add(str(raw.position))

    expected = undisturbed(settings, raw_records(settings), seen)
    vendors = load_vendors(settings.vendors_file).names
    letters = {header_of(item, "raw") for item in read_all(settings, map(dead_letter_topic, vendors))}
    store = Topics(settings)
    try:
        store.read_to_the_end()
        return Comparison(
            events,
            len(expected),
            **store.different(expected),
            letters=(len(dead), len(dead - letters), len(letters - dead)),
            transitions=(_rows(expected), _rows(store.values)),
            records=sum(store.writes.values()),
            again=store.again,
        )
    finally:
        store.close()


def first_that_need(settings: Settings, topic: str, since: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return, by raw partition, the first offset from ``since`` on whose event has a record for ``topic``."""
    found: dict[TopicPartition, int] = {}

    def seen(raw: ConsumerRecord, followed: MappedEvent) -> None:
        partition = raw.topic_partition
        if raw.offset >= since.get(partition, 0) and any(record.topic == topic for record in followed.records):
            found.setdefault(partition, raw.offset)

    undisturbed(settings, raw_records(settings), seen)
    return found


def _rows(values: dict[str, bytes]) -> int:
    encounters = (orjson.loads(value) for name, value in values.items() if "fhir.r4.Encounter " in name)
    return sum(len(encounter.get("statusHistory", ())) for encounter in encounters)
