"""Records of a partition, what the group has committed of them, and what `Positions` makes of their batches."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.admin import AdminClient

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step2_consume.faust.offsets import Fetched, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT

TOPIC = "raw.altibbi"
ELSEWHERE = TopicPartition("raw.mediquo", 2)


@dataclass
class Log:
    """Ten new records of a partition, of which the group has committed three, and others of another topic."""

    settings: Settings
    records: list[ConsumerRecord]
    others: list[ConsumerRecord]

    @property
    def partition(self) -> TopicPartition:
        return self.records[0].topic_partition


def write(settings: Settings, topic: str, count: int) -> list[ConsumerRecord]:
    """Write records with their number as value to partition 2, and return them as they were read."""
    producer = patient_producer(settings)
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if delivery_error(error, message) is None:
            offsets.append(cast(int, message.offset()))

    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", 2, on_delivery=delivered, headers=[("tenant", b"acme")])
    assert producer.flush(LIMIT) == 0
    assert len(offsets) == count
    with Scanner(settings) as scanner:
        found = [from_confluent(item) for item in scanner.read({TopicPartition(topic, 2): min(offsets)})]
    assert [item.value for item in found] == [str(number).encode() for number in range(count)]
    return found


def commit(settings: Settings, at: ConsumerRecord) -> None:
    """Commit for the group, so that ``at`` is the next record."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    consumer.commit(offsets=[confluent_kafka.TopicPartition(at.topic, at.partition, at.offset)], asynchronous=False)
    consumer.close()


def delete_before(first: ConsumerRecord, settings: Settings) -> None:
    """Delete older records, as retention does."""
    cluster = AdminClient(librdkafka(settings))
    partition = confluent_kafka.TopicPartition(first.topic, first.partition, first.offset)
    for deleted in cluster.delete_records([partition]).values():
        deleted.result(LIMIT)


@contextmanager
def transaction(settings: Settings, topic: str, partition: int, count: int) -> Iterator[list[ConsumerRecord]]:
    """Yield a foreign producer's records. They are committed when the context ends, and a marker then follows them."""
    patience = {"transaction.timeout.ms": int(LIMIT * 1_000)}
    producer = patient_producer(settings, {"transactional.id": f"foreign-{uuid.uuid4()}", **patience})
    producer.init_transactions(LIMIT)
    producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", partition)
    producer.flush(LIMIT)
    with Scanner(settings) as scanner:
        written = [from_confluent(item) for item in scanner.read({TopicPartition(topic, partition): None})]
    yield written[-count:]
    producer.commit_transaction(LIMIT)


def complete(positions: Positions, *batches: Sequence[ConsumerRecord]) -> list[Sequence[ConsumerRecord]]:
    """Return each batch with its gaps filled. Each is delivered before the next."""

    async def all_of_them() -> list[Sequence[ConsumerRecord]]:
        made = []
        for batch in batches:
            made.append(whole := await positions.fill_gaps(batch))
            positions.mark_delivered(whole)
            positions.end_batch(whole)
        return made

    return asyncio.run(all_of_them())


def fetched(*ends: tuple[TopicPartition, int]) -> dict[TopicPartition, Fetched]:
    """Return the state in which everything has been fetched."""
    return {partition: Fetched(end, end) for partition, end in ends}


def unstarted(transport: WorkerTransport) -> WorkerConsumer:
    """Return a transport's consumer that never connects: none of its callbacks is ever called."""

    async def unused(_: object) -> None:
        raise AssertionError("the consumer was started")

    consumer = transport.create_consumer(unused, on_partitions_revoked=unused, on_partitions_assigned=unused)
    assert isinstance(consumer, WorkerConsumer)
    return consumer
