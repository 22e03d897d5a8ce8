"""Reading delivery reports: a record is written only if its report has an offset (faust.md §2.6).

librdkafka also reports a batch as written once a later batch of the partition was acknowledged ("implicitly acked"),
because brokers refuse batches out of order. But from a producer that is new to a partition, a broker accepts whichever
batch comes first (KAFKA-15591; from Kafka 4.5 on, no longer in an empty partition). A broker that becomes the leader
between two batches refuses the first and accepts the second. The first is then lost, and reported as written, without
an error and without an offset.

`producer_config` avoids this by sending one batch at a time. The check here is the second line of defence.
"""

from confluent_kafka import KafkaError, Message

NO_OFFSET = KafkaError(
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "reported as written because a later batch was, but without an offset"
)


def delivery_error(error: KafkaError | None, message: Message | None) -> KafkaError | None:
    """Return why a record is not known to be written; None where it is, and ``message`` has its offset."""
    if error is None and (message is None or message.offset() is None):
        return NO_OFFSET
    return error
