"""Read delivery reports: a record is written only if its report has an offset (faust.md §2.6).

librdkafka also reports a batch as written once a later batch of the partition was acknowledged ("implicitly acked"),
because brokers refuse batches out of order. But from a producer that is new to a partition, a broker accepts whichever
batch comes first (KAFKA-15591; from Kafka 4.5 on, no longer in an empty partition). A broker that becomes the leader
between two batches refuses the first and accepts the second. The first is then lost, and reported as written, without
an error and without an offset.

`producer_config` avoids this by sending one batch at a time. The check here is the second line of defence.
"""

import math
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, Message, Producer

NO_OFFSET = KafkaError(
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "reported as written because a later batch was, but without an offset"
)

POLL_SECONDS = 0.1
"""The longest that a poll blocks: a signal is handled between two of them."""


def delivery_error(error: KafkaError | None, message: Message | None) -> KafkaError | None:
    """Return why a record is not known to be written; None where it is, and ``message`` has its offset."""
    if error is None and (message is None or message.offset() is None):
        return NO_OFFSET
    return error


def take_reports(producer: Producer, seconds: float = 0.0) -> None:
    """Serve the delivery reports that are due; wait up to ``seconds`` for the first.

    confluent-kafka raises a fatal error of the producer here, once, and stops serving what waits behind it. Each
    record that it failed has its own report, and librdkafka logs the error: so it is not raised again.
    """
    try:
        producer.poll(seconds)
    except KafkaException as error:
        if not error.args[0].fatal():
            raise


def take_all_reports(producer: Producer, seconds: float = math.inf) -> int:
    """Wait until each record has its delivery report; return how many have none.

    ``seconds``: the longest wait; without it, the producer's delivery timeout is the limit. ``flush`` is not used: it
    goes on after a fatal error, and calls Python for the reports behind it while the exception is set (SystemError).
    """
    until = monotonic() + seconds
    while (left := len(producer)) and (wait := until - monotonic()) > 0:
        take_reports(producer, min(wait, POLL_SECONDS))
    return left
