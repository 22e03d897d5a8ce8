"""Records and positions: text forms, and the way of a record through Kafka and each client's converter."""

import doctest
import time
from uuid import uuid4

import pytest
from faust.types.tuples import Message

from fhirline.streams.kafka import records
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    ProducerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
    from_faust,
    produce,
)
from fhirline.topics.declared import dead_letter_topic, enriched_topic, raw_topic
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer

HEADERS = [("tenant", b"acme"), ("event-key", b"e" * 64)]


def test_the_examples_of_the_module() -> None:
    assert doctest.testmod(records).failed == 0


@pytest.mark.parametrize(
    "text", ["", "raw.mediquo", "raw.mediquo/3", "raw.mediquo/3/x", "raw.mediquo/-1/0", "/3/17", "a b/3/17", "a/3/17/1"]
)
def test_other_texts_are_no_position(text: str) -> None:
    assert RecordPosition.parse(text) is None


def test_a_position_is_printed_and_parsed_in_one_form() -> None:
    position = RecordPosition("raw.infermedica.enriched", 0, 10**17)
    assert RecordPosition.parse(str(position)) == position
    assert str(position.topic_partition) == "raw.infermedica.enriched/0"


@pytest.mark.parametrize("topic", [raw_topic, enriched_topic, dead_letter_topic])
def test_the_vendor_follows_from_the_topic(topic: object) -> None:
    assert callable(topic)
    assert ConsumerRecord(topic("altibbi"), 0, 0, 0, None, None, []).vendor == "altibbi"


@pytest.mark.parametrize("timestamp_ms", [1_717_243_200_123, None])
def test_a_record_is_read_as_it_was_written(broker: RunningBroker, timestamp_ms: int | None) -> None:
    """Key, value (also none), headers, partition and timestamp; without one, the time of writing."""
    settings = broker.settings()
    key, before = uuid4().hex.encode(), int(time.time() * 1000)
    sent = [ProducerRecord(raw_topic("azodha"), key, value, 3, HEADERS, timestamp_ms) for value in (b"{}", b"", None)]
    producer = patient_producer(settings)
    for record in sent:
        produce(producer, record)
    assert producer.flush(90) == 0
    with Scanner(settings) as scanner:
        messages = scanner.read({TopicPartition(raw_topic("azodha"), 3): None})
        found = [from_confluent(message) for message in messages if message.key() == key]
    times = [record.timestamp_ms for record in found]
    assert found == [
        ConsumerRecord(record.topic, 3, read.offset, read.timestamp_ms, record.key, record.value, HEADERS)
        for record, read in zip(sent, found, strict=True)
    ]
    if timestamp_ms is None:
        assert before <= min(times) <= max(times) <= int(time.time() * 1000)
    else:
        assert times == [timestamp_ms] * 3
        assert found == [record.at(3, read.offset) for record, read in zip(sent, found, strict=True)]


@pytest.mark.parametrize(
    ("seconds", "headers", "expected"),
    [
        (1_717_243_200.123, HEADERS, (1_717_243_200_123, HEADERS)),
        (None, None, (0, [])),
        (1.0, {"a": b"b"}, (1_000, [("a", b"b")])),
    ],
)
def test_fausts_messages_have_seconds_and_any_form_of_headers(
    seconds: float | None, headers: object, expected: tuple[int, list[tuple[str, bytes]]]
) -> None:
    message = Message("raw.altibbi", 2, 7, seconds, 0, headers, b"k", b"{}", None)  # type: ignore[arg-type]  # any form
    record = from_faust(message)
    assert (record.timestamp_ms, record.headers) == expected
    assert record.position == RecordPosition("raw.altibbi", 2, 7)
