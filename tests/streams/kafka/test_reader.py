"""Reading topics to their end."""

from uuid import uuid4

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition
from fhirline.topics.declared import raw_topic
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer


def test_nothing_is_fetched_between_two_reads(broker: RunningBroker) -> None:
    """Else each scanner that is kept asks the broker a hundred times a second."""
    place = TopicPartition(raw_topic("azodha"), 5)
    producer = patient_producer(broker.settings())
    with Scanner(broker.settings()) as scanner:
        position: int | None = None
        for value in (uuid4().hex.encode(), uuid4().hex.encode()):
            producer.produce(place.topic, value, b"key", place.partition)
            producer.flush()
            messages = list(scanner.read({place: position}))
            assert messages[-1].value() == value
            assert scanner._consumer.assignment() == []
            position = (messages[-1].offset() or 0) + 1


def test_nothing_is_fetched_after_a_read_that_its_caller_leaves(broker: RunningBroker) -> None:
    place = TopicPartition(raw_topic("azodha"), 4)
    producer = patient_producer(broker.settings())
    for _ in range(2):
        producer.produce(place.topic, b"{}", b"key", place.partition)
    producer.flush()
    with Scanner(broker.settings()) as scanner:
        left, next_one = scanner.read({place: None}), scanner.read({place: None})
        assert next(left)
        assert next(next_one)
        del left
        assert scanner._consumer.assignment() != [], "the later read goes on"
        del next_one
        assert scanner._consumer.assignment() == []
