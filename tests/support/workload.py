"""Raw events of all vendors for tests of the worker, what must become of them, and what topics hold.

The expectation is the pure core's own, run once and undisturbed over the raw records in their partitions' order: the
law is that no crash, pause or repeat may show in the last value under any canonical key.
"""

import copy
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.headers import KEY_ID
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition, partition_of, position_of
from fhirline.streams.kafka.records import produce as produce_one
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step2_consume.practitioners import practitioner_record
from fhirline.streams.step3_restore.contribution_cache import PartitionContributions
from fhirline.streams.step4_normalize.map_event import MappedEvent, map_event
from fhirline.topics.declared import BUNDLE, CONTRIBUTIONS, OUTCOME, RESOURCE_TYPES, canonical_topic
from tests.support.cases import cases
from tests.support.encryption import Sealer
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT

PATIENTS = 40
RECEIVED_AT = 1_717_243_200  # 2024-06-01T12:00:00Z
MESSAGES = (BUNDLE, OUTCOME)
"""Messages about one event at one time, not state: an event that is read again may make others (mapping.md §3.1)."""


def events(count: int, seed: int) -> Iterator[ProducerRecord]:
    """``count`` events of all golden cases, spread over patients, shuffled, some delivered twice."""
    rng = random.Random(seed)
    pool = [
        (case.vendor, case.route_event, body)
        for case in cases()
        for body in case.events
        if not is_enriched(body)  # comes on a topic of its own, under another key than the thin event of its survey
    ]
    for position in range(count):
        vendor, route_event, body = rng.choice(pool)
        renamed = of_patient(copy.deepcopy(body), rng.randrange(PATIENTS))
        received = Instant.parse(f"2024-06-01T12:{position // 60 % 60:02}:{position % 60:02}Z")
        assert received is not None
        made = raw_record(vendor, "acme", orjson.dumps(renamed), received, route_event, 64)
        yield made
        if rng.random() < 0.05:
            yield made


def is_enriched(body: dict[str, Any]) -> bool:
    """Tell whether a body is that of an enriched event."""
    return any("summary" in part for part in (body, body.get("content") or ()))


_IDS = frozenset({"code", "user_id", "patientId", "survey_id"})


def of_patient(value: Any, number: int) -> Any:
    """The same body for another patient: every field that names one gets a number behind it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _IDS and isinstance(item, str | int) and not isinstance(item, bool) and item != "":
                value[key] = item * 1000 + number if isinstance(item, int) else f"{item}-{number}"
            else:
                of_patient(item, number)
    elif isinstance(value, list):
        for item in value:
            of_patient(item, number)
    return value


def produce(
    settings: Settings, records: Iterable[ProducerRecord], *, in_clear: bool = False, one_by_one: bool = False
) -> list[ConsumerRecord]:
    """Write raw records; returns them as they lie on the topics, by partition and offset.

    Where the settings have encryption, raw records are sealed, as a gateway seals them; what is returned is not.
    ``in_clear``: as a gateway without encryption writes them. ``one_by_one``: no two are in one batch.
    """
    sealer = Sealer(settings) if settings.encryption and not in_clear else None
    producer = patient_producer(settings, logger=logging.getLogger("librdkafka"))
    written: list[ConsumerRecord] = []

    def report(made: ProducerRecord) -> Any:
        def delivered(error: KafkaError | None, message: Message) -> None:
            error = delivery_error(error, message)
            assert error is None, error
            position = position_of(message)
            written.append(made.at(position.partition, position.offset))

        return delivered

    for plain in records:
        made = sealer(plain) if sealer and is_plain(plain) else plain
        if sealer and sealer.made:  # the key first
            produce_one(producer, sealer.made.pop())
            assert producer.flush(LIMIT) == 0
        produce_one(producer, made, report(made))
        if one_by_one:
            assert producer.flush(LIMIT) == 0
        producer.poll(0)
    assert producer.flush(LIMIT) == 0
    return sorted(written, key=lambda item: (item.topic, item.partition, item.offset))


def is_plain(record: ProducerRecord) -> bool:
    """Tell whether this is a raw record that is not sealed, nor made to look so."""
    of_sealed = any(name == KEY_ID for name, _ in record.headers)
    return record.topic.startswith("raw.") and record.data_key is None and not of_sealed


def undisturbed(
    settings: Settings,
    raws: Iterable[ConsumerRecord],
    seen: Callable[[ConsumerRecord, MappedEvent], None] = lambda *_: None,
) -> dict[str, bytes]:
    """Topic-and-key → last value, as one run over the raw topics makes it; ``seen`` is told of each step."""
    normalize = build_normalizer(settings)
    memories: dict[TopicPartition, InMemoryState] = {}
    contributions = PartitionContributions()
    store: dict[str, bytes] = {}
    for raw in raws:
        memory = memories.setdefault(raw.topic_partition, InMemoryState())
        followed = map_event(raw, normalize, memory, settings.partitions)
        memory.apply(followed.state_updates)
        seen(raw, followed)
        for record in followed.records:
            if record.topic.startswith("dead-letter."):
                continue
            assert record.value is not None, f"a tombstone for {record.topic}"
            if record.topic == CONTRIBUTIONS:
                contributions.read(record.key, record.value, record.headers)
            else:
                store[f"{record.topic} {record.key.decode()}"] = record.value
    for made in practitioners(normalize, contributions, settings.partitions):
        store[f"{made.topic} {made.key.decode()}"] = made.value or b""
    return store


def practitioners(
    normalize: Normalizer, contributions: PartitionContributions, partitions: int
) -> Iterator[ProducerRecord]:
    """Fold every Practitioner that has a contribution."""
    for subject in contributions:
        made = practitioner_record(normalize, contributions(subject), partitions)
        assert made is not None
        yield made


@dataclass
class Store:
    """Contents of the canonical topics: last value per key, and how often each was written."""

    settings: Settings
    values: dict[str, bytes] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    partitions: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._consumer = Consumer(
            librdkafka(
                self.settings, **{"group.id": "tests", "enable.auto.commit": False, "enable.partition.eof": True}
            )
        )
        topics = [BUNDLE, OUTCOME, *map(canonical_topic, RESOURCE_TYPES)]
        self._places = {TopicPartition(topic, number) for topic in topics for number in range(self.settings.partitions)}
        self._consumer.assign([confluent_kafka.TopicPartition(*place, OFFSET_BEGINNING) for place in self._places])
        self._ended: set[TopicPartition] = set()

    def read(self, seconds: float = 0.5) -> None:
        """Take in what arrives: the first record within ``seconds``, and what follows it closely."""
        first = self._consumer.poll(seconds)
        for message in () if first is None else (first, *self._consumer.consume(5_000, 0.05)):
            self._take(message)

    def read_to_the_end(self) -> None:
        self._ended.clear()
        self._consumer.assign([confluent_kafka.TopicPartition(*place, OFFSET_BEGINNING) for place in self._places])
        self.values.clear()
        self.writes.clear()
        while self._ended != self._places:
            self.read()

    def _take(self, message: Message) -> None:
        place = partition_of(message)
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._ended.add(place)
            return
        name = f"{place[0]} {(message.key() or b'').decode()}"
        self.values[name] = message.value() or b""
        self.writes[name] += 1
        self.partitions.setdefault(name, set()).add(place[1])

    def differences(self, expected: dict[str, bytes]) -> dict[str, int]:
        """Count the keys that are missing, differ, or should not be there; the law asks for 0 of each."""
        return {kind: len(names) for kind, names in self.different(expected).items()}

    def different(self, expected: dict[str, bytes]) -> dict[str, list[str]]:
        found = self.values
        return {
            "missing": sorted(expected.keys() - found.keys()),
            "differing": sorted(
                name
                for name in expected.keys() & found.keys()
                if found[name] != expected[name] and not name.startswith(MESSAGES)
            ),
            "unexpected": sorted(name for name in found.keys() - expected.keys() if not name.startswith(MESSAGES)),
        }

    def close(self) -> None:
        self._consumer.close()
