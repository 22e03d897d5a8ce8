"""A broker becomes the leader between two batches of a producer that is new to it (KAFKA-15591).

Apache Kafka accepts the second batch although it never saw the first, and librdkafka then reports both as written.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import producer_config
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive import raw_producer
from fhirline.streams.step1_receive.files import Ingest, Line
from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable, RawProducer
from fhirline.streams.step1_receive.routes import Route
from fhirline.streams.step5_publish import publish as step5_deliver
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from tests.crash.comparison import read_all
from tests.support.cases import cases
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.kafka.late_leader import LateLeader

pytestmark = pytest.mark.long  # it needs Apache Kafka

TOPIC = "raw.mediquo"
REFUSAL = pytest.mark.parametrize("refusal_first", [False, True], ids=["refusal last", "refusal first"])
"""librdkafka takes the refusal of a batch for nothing when it knows that later ones are written. When it does not, it
repeats the batch, the broker refuses it again, as out of order, and the producer has failed for good."""
ON_A_BUSY_MACHINE = 8.0
"""Seconds in which the second request of a client must come, below the delivery timeouts. With the 2 s that show that
none comes, a client that was slow was refused before it, repeated its first request, and had it accepted."""
LARGE = 600_000
"""Bytes of a record: two of them do not fit one batch."""


@pytest.fixture(scope="module")
def leader() -> Iterator[tuple[LateLeader, Settings]]:
    with LateLeader() as late, apache(advertised_listeners=f"PLAINTEXT://127.0.0.1:{late.port}") as kafka:
        late.behind(kafka.brokers[1].port)
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap)
        RecordPublisher(settings).publish([out(b"before")])  # only after this does the broker really lead the partition
        yield late, settings


@pytest.fixture
def several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send as librdkafka does by default."""

    def config(settings: Settings, **more: Any) -> dict[str, Any]:
        return producer_config(settings, **more, **{"max.in.flight.requests.per.connection": 5})

    monkeypatch.setattr(step5_deliver, "producer_config", config)
    monkeypatch.setattr(raw_producer, "producer_config", config)


def keys(count: int = 3) -> list[bytes]:
    return [f"{secrets.token_hex(4)}/{number}".encode() for number in range(count)]


def there(settings: Settings, sent: list[bytes]) -> list[bytes]:
    return [key for item in read_all(settings, [TOPIC]) if (key := bytes(item.key() or b"")) in sent]


def out(key: bytes) -> ProducerRecord:
    return ProducerRecord(TOPIC, key, os.urandom(LARGE), 0)


def test_a_refused_batch_is_written_before_the_next_one(leader: tuple[LateLeader, Settings]) -> None:
    late, settings = leader
    sent, acknowledged = keys(), list[Message]()
    late.turn_away()
    assert asyncio.run(RecordPublisher(settings).publish_async([out(item) for item in sent], acknowledged.append)) == []
    assert late.turned_away == 1
    assert [item.key() for item in acknowledged] == there(settings, sent) == sent


@REFUSAL
@pytest.mark.usefixtures("several_at_a_time")
def test_a_record_without_an_offset_is_not_delivered(leader: tuple[LateLeader, Settings], refusal_first: bool) -> None:
    late, settings = leader
    sent = keys()
    late.turn_away(ON_A_BUSY_MACHINE, 2, refusal_first)
    with pytest.raises(PublishFailed, match=rf"^{TOPIC}: OUT_OF_ORDER_SEQUENCE_NUMBER$"):
        asyncio.run(RecordPublisher(settings).publish_async([out(item) for item in sent]))
    assert there(settings, sent) == sent[1:]


@REFUSAL
def test_the_gateway_accepts_no_record_without_an_offset(
    leader: tuple[LateLeader, Settings], several_at_a_time: None, refusal_first: bool
) -> None:
    late, settings = leader

    def record(key: bytes) -> ProducerRecord:
        return ProducerRecord(TOPIC, key, os.urandom(LARGE), timestamp_ms=int(time.time() * 1000))

    async def send(key: bytes) -> list[BaseException | None]:
        producer = RawProducer(settings)
        await producer.topics()
        late.turn_away(ON_A_BUSY_MACHINE, 2, refusal_first)
        answers = await asyncio.gather(*(producer.send(record(key)) for _ in range(3)), return_exceptions=True)
        await producer.send(record(key))  # the sender comes again
        await producer.stop()
        return answers

    key = keys(1)[0]
    answers = asyncio.run(send(key))
    assert isinstance(answers[0], KafkaUnavailable), answers
    assert answers[1:] == [None, None]
    assert there(settings, [key]) == [key] * 3


@REFUSAL
@pytest.mark.usefixtures("several_at_a_time")
def test_an_ingest_ends_where_a_record_has_no_offset(leader: tuple[LateLeader, Settings], refusal_first: bool) -> None:
    late, settings = leader
    body = next(case.events[0] for case in cases() if case.vendor == "mediquo")  # lines of one patient: one partition
    texts = [secrets.token_hex(LARGE // 2) for _ in range(3)]
    late.turn_away(ON_A_BUSY_MACHINE, 2, refusal_first)
    job = Ingest(settings, Route("mediquo", "acme"), None, lambda rejected: None)

    def ingest() -> None:
        for number, text in enumerate(texts, 1):
            content = orjson.dumps(body | {"note": text})
            job.put(Line("bodies.ndjson", number, content, len(content)))
        job.finish()

    with pytest.raises(KafkaUnavailable, match=r"^OUT_OF_ORDER_SEQUENCE_NUMBER$"):
        ingest()
    job.abandon()
    assert job.count.taken == 2
    values = [item.value() or b"" for item in read_all(settings, [TOPIC])]
    assert [sum(text.encode() in value for value in values) for text in texts] == [0, 1, 1]
