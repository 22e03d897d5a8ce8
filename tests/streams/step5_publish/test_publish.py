"""The barrier on a real broker, blocking and asynchronous: only acknowledged records count as delivered."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
import uvloop
from confluent_kafka import Message, Producer

from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive import raw_producer
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.streams.step5_publish import publish as module
from fhirline.streams.step5_publish.publish import PRODUCERS, YIELD_EVERY, Delivered, PublishFailed, RecordPublisher
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import Topic
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.waiting import LIMIT

Publish = Callable[[RecordPublisher, Sequence[ProducerRecord], Delivered | None], Sequence[ProducerRecord]]

FORMS: dict[str, Publish] = {
    "blocking": lambda by, records, delivered: by.publish(records, delivered),
    "beside": lambda by, records, delivered: asyncio.run(by.publish_async(records, delivered)),
}


def new_topics(on: RunningBroker, count: int) -> list[str]:
    names = [f"delivered-{uuid4().hex[:8]}" for _ in range(count)]
    with Cluster(kafka_python(on.settings()), timeout=LIMIT) as cluster:
        made = [Topic(name, 1, 1, "delete", 1_048_576, "key", "for a test") for name in names]
        assert cluster.apply(cluster.plan(made)).complete
    return names


@pytest.fixture(scope="module")
def topic(embedded: RunningBroker) -> str:
    return new_topics(embedded, 1)[0]


def records(topic: str, mark: str, count: int = 2 * YIELD_EVERY + 1) -> list[ProducerRecord]:
    return [ProducerRecord(topic, f"{mark}/{number}".encode(), b"x" * 100, 0) for number in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_it_ends_when_every_record_is_acknowledged(embedded: RunningBroker, topic: str, form: str) -> None:
    acknowledged: list[Message] = []
    sent = records(topic, form)
    assert FORMS[form](RecordPublisher(embedded.settings()), sent, acknowledged.append) == []
    assert [item.key() for item in acknowledged] == [item.key for item in sent]
    assert len({item.offset() for item in acknowledged}) == len(sent)


def test_concurrent_batches_get_their_own_reports(embedded: RunningBroker, topic: str) -> None:
    publisher = RecordPublisher(embedded.settings())
    heard: dict[str, list[Message]] = {"one": [], "other": []}

    async def both() -> None:
        await asyncio.gather(*(publisher.publish_async(records(topic, mark), heard[mark].append) for mark in heard))

    asyncio.run(both())
    for mark, acknowledged in heard.items():
        assert [item.key() for item in acknowledged] == [record.key for record in records(topic, mark)]


@pytest.mark.parametrize("form", FORMS)
def test_topics_share_producers_and_each_keeps_its_order(
    apache_kafka: RunningBroker, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    producers: list[Producer] = []

    def counted(config: dict[str, Any], **more: Any) -> Producer:
        producers.append(Producer(config, **more))
        return producers[-1]

    monkeypatch.setattr(module, "Producer", counted)
    topics = new_topics(apache_kafka, PRODUCERS + 2)
    publisher = RecordPublisher(apache_kafka.settings(), PRODUCERS)
    assert len(producers) == PRODUCERS  # and none later, on an event loop that must not block
    lie: dict[str, list[tuple[int, bytes]]] = {item: [] for item in topics}

    def delivered(message: Message) -> None:
        lie[message.topic() or ""].append((message.offset() or 0, bytes(message.key() or b"")))

    sent = [record for together in zip(*(records(item, form) for item in topics), strict=True) for record in together]
    assert FORMS[form](publisher, sent, delivered) == []
    assert len(producers) == PRODUCERS
    for topic in topics:
        assert [key for _, key in sorted(lie[topic])] == [record.key for record in records(topic, form)]


@pytest.mark.parametrize("form", FORMS)
def test_without_an_acknowledgement_it_fails(form: str) -> None:
    with socket.socket() as nobody:  # bound but not listening, so that no broker can start there
        nobody.bind(("127.0.0.1", 0))
        settings = settings_for(f"127.0.0.1:{nobody.getsockname()[1]}", delivery_timeout=1.0)
        with pytest.raises(PublishFailed, match=r"_MSG_TIMED_OUT|unacknowledged"):
            FORMS[form](RecordPublisher(settings), records("delivered", form, 3), None)


def test_a_pause_of_the_gateway_is_not_taken_for_silence_of_kafka(
    embedded: RunningBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the pause, the loop runs the overdue timeout first, although Kafka's answer has arrived."""
    monkeypatch.setattr(raw_producer, "GRACE", 0.0)
    timeout = 3.0
    record = ProducerRecord(topic, b"key", b"{}", timestamp_ms=int(time.time() * 1000))

    async def paused() -> None:
        producer = RawProducer(embedded.settings(gateway_delivery_timeout=timeout))
        await producer.send(record)  # fetches the topics and opens the connection
        sending = asyncio.ensure_future(producer.send(record))
        await asyncio.sleep(0)  # until it waits for the acknowledgement
        time.sleep(timeout + 0.5)  # noqa: ASYNC251  # blocks the whole process
        await sending
        assert await producer.stop() == 0

    uvloop.run(paused())
