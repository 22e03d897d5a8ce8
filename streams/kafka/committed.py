"""Ask for a group's committed offsets, and again while its coordinator moves."""

import time
from collections.abc import Iterable

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException

from fhirline.streams.kafka.records import TopicPartition

MAY_PASS = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._WAIT_COORD,
        KafkaError._TIMED_OUT,
    }
)
"""Errors that brokers answer with for a second or two after one of them has started, and librdkafka's error for no
answer. librdkafka passes both on to its caller."""

ASK_SECONDS = 5.0
"""Longest time of one question: librdkafka may wait all of its time for a broker that is there already."""

ASK_AGAIN_SECONDS = 0.2


def committed(
    consumer: Consumer, partitions: Iterable[TopicPartition], timeout: float
) -> list[confluent_kafka.TopicPartition]:
    """Return the committed offsets of a consumer's group; negative where it has none.

    Asks again after errors of `MAY_PASS`, until ``timeout`` seconds are over. Raises KafkaException, also for an error
    of a single partition.
    """
    until = time.monotonic() + timeout
    asked = [*partitions]
    while True:
        try:
            return ask_once(consumer, asked, max(0.1, min(ASK_SECONDS, until - time.monotonic())))
        except KafkaException as error:
            if error.args[0].code() not in MAY_PASS or time.monotonic() > until:
                raise
        time.sleep(ASK_AGAIN_SECONDS)


def ask_once(
    consumer: Consumer, partitions: Iterable[TopicPartition], timeout: float
) -> list[confluent_kafka.TopicPartition]:
    """Ask once for the committed offsets of a consumer's group. Raises KafkaException."""
    answered = consumer.committed([confluent_kafka.TopicPartition(*place) for place in partitions], timeout=timeout)
    for answer in answered:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return answered
