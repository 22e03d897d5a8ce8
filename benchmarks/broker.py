"""A fresh broker with the declared topics, what is put on it, and how far a worker has come."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer

from benchmarks import machine
from benchmarks.program import BenchmarkFailed, Program
from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import kafka_python, librdkafka, producer_config
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, partition_of, produce
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import BUNDLE, RESOURCE_TYPES, canonical_topic, declared
from tests.support.kafka.apache import ApacheKafka

Kind = Literal["apache", "embedded"]

PROGRESS = canonical_topic("Provenance")
"""Every event of the mix makes one Provenance, the last of its resources: counting these counts events."""

STALLED_SECONDS = 60.0


@dataclass(frozen=True)
class Broker:
    """A running broker and the settings that lead to it."""

    settings: Settings
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "FHIRLINE_BOOTSTRAP": self.settings.bootstrap,
            "FHIRLINE_PARTITIONS": str(self.settings.partitions),
            "FHIRLINE_SESSION_TIMEOUT": f"{self.settings.session_timeout:g}",
            "FHIRLINE_VALIDATION": self.settings.validation,
        }

    def preload(self, records: Iterable[ProducerRecord], now: bool = False) -> dict[TopicPartition, int]:
        """Write raw records and wait for their acknowledgements; the number in each partition.

        ``now``: with the time of writing as the record's timestamp, not the mix's own.
        """
        producer = Producer(producer_config(self.settings, **{"linger.ms": 20}))
        counted: Counter[TopicPartition] = Counter()

        def delivered(error: object, message: Message) -> None:
            if error is not None:
                raise BenchmarkFailed(f"a raw record was not stored: {error}")
            counted[partition_of(message)] += 1

        expected = 0
        for record in records:
            send(producer, record, delivered, now)
            expected += 1
        producer.flush(120)
        if counted.total() != expected:
            raise BenchmarkFailed(f"{expected - counted.total()} raw records were not stored")
        return counted

    def lag(self, stored: Mapping[TopicPartition, int], group: str) -> int:
        """Raw records that the group has not committed."""
        consumer = Consumer(librdkafka(self.settings, **{"group.id": group}))
        try:
            found = consumer.committed([confluent_kafka.TopicPartition(*partition) for partition in stored], timeout=30)
        finally:
            consumer.close()
        return sum(stored[TopicPartition(item.topic, item.partition)] - max(0, item.offset) for item in found)

    def written(self) -> tuple[int, int]:
        """Count the resources, and the bundles, on the canonical topics (end offsets; Apache Kafka counts exactly)."""
        consumer = Consumer(librdkafka(self.settings, **{"group.id": "bench.count"}))
        try:
            ends = {
                topic: sum(
                    consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), timeout=30)[1]
                    for partition in range(self.settings.partitions)
                )
                for topic in (*map(canonical_topic, RESOURCE_TYPES), BUNDLE)
            }
        finally:
            consumer.close()
        bundles = ends.pop(BUNDLE)
        return sum(ends.values()), bundles


def send(producer: Producer, record: ProducerRecord, delivered: Callable[..., None], now: bool = True) -> None:
    """Hand a raw record to librdkafka, waiting for room where its queue is full.

    ``now``: with the time of writing as its timestamp, not its own.
    """
    record = replace(record, timestamp_ms=None) if now else record
    while True:
        try:
            produce(producer, record, delivered)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


@contextmanager
def broker(kind: Kind, partitions: int, cores: frozenset[int] | None = machine.OTHERS) -> Iterator[Broker]:
    """A broker for one measurement, on the core of all that is not measured: no run inherits another's files."""
    with machine.on(cores):
        if kind == "apache":
            with ApacheKafka() as kafka:
                yield _ready(kafka.bootstrap, kafka.pid(), partitions)
        else:
            with EmbeddedBroker() as embedded:
                yield _ready(embedded.bootstrap, embedded.pid, partitions)


def _ready(bootstrap: str, pid: int, partitions: int) -> Broker:
    settings = Settings(bootstrap=bootstrap, partitions=partitions, validation="spec", _env_file=None)
    with Cluster(kafka_python(settings), timeout=30) as cluster:
        applied = cluster.apply(cluster.plan(declared(settings)))
        if not applied.complete:
            raise BenchmarkFailed(f"topics could not be made: {applied}")
    return Broker(settings, pid)


class Progress:
    """Counts events by what arrives on the topic of Provenance, each with the time of its arrival."""

    def __init__(self, of: Broker) -> None:
        self.count = 0
        self._consumer = Consumer(
            librdkafka(
                of.settings,
                **{"group.id": "bench.progress", "enable.auto.commit": False, "fetch.wait.max.ms": 10},
                **{"fetch.message.max.bytes": 4_000_000},
            )
        )
        places = range(of.settings.partitions)
        self._consumer.assign([confluent_kafka.TopicPartition(PROGRESS, place, OFFSET_BEGINNING) for place in places])

    def read(self, seconds: float = 0.05) -> list[Message]:
        """Return the records that have arrived; wait up to ``seconds`` for the first one."""
        first = self._consumer.poll(seconds)
        arrived = [] if first is None else [first, *self._consumer.consume(5_000, 0)]
        arrived = [item for item in arrived if item.error() is None]
        self.count += len(arrived)
        return arrived

    def wait_for(self, count: int, programs: Iterable[Program]) -> None:
        """Read until ``count`` events have arrived; raises where a process ends, or nothing comes any more."""
        programs, last = list(programs), time.monotonic()
        while self.count < count:
            if self.read():
                last = time.monotonic()
            for program in programs:
                program.check()
            if time.monotonic() - last > STALLED_SECONDS:
                raise BenchmarkFailed(f"{self.count} of {count} events, and nothing for {STALLED_SECONDS:g} s")

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def progress(of: Broker) -> Iterator[Progress]:
    made = Progress(of)
    try:
        yield made
    finally:
        made.close()
