"""What counts as Kafka's word that a record is written: an acknowledgement that says where it lies (faust.md §2.6).

librdkafka also takes a batch for written when one behind it in the same partition was acknowledged, since brokers
refuse what is out of order ("implicitly acked"). But from a producer that it does not know yet in a partition, a broker
takes whatever comes first (KAFKA-15591; from Kafka 4.5 on, no longer in an empty partition). Where it becomes the
leader between two batches, it turns the first away and takes the second: the first lies nowhere, and is reported as
written, with no error, and with no offset.

`producer_config` sends one batch at a time, so that none is behind another. This here holds where that is not enough.
"""

from confluent_kafka import KafkaError, Message

NOWHERE = KafkaError(
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "taken for written because a later batch was: Kafka says not where it lies"
)


def delivery_error(error: KafkaError | None, message: Message | None) -> KafkaError | None:
    """For delivery reports: why a record is not known to be written; None where it is, and `message` has its offset."""
    if error is None and (message is None or message.offset() is None):
        return NOWHERE
    return error
