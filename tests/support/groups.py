"""Offsets that a consumer group has committed."""

from confluent_kafka import Consumer, TopicPartition

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from tests.support.waiting import LIMIT


def committed(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """Return the committed offsets of a topic by partition; partitions without one are left out."""
    consumer = Consumer(librdkafka(settings, **{"group.id": group, "enable.auto.commit": False}))
    try:
        asked = [TopicPartition(topic, number) for number in range(settings.partitions)]
        return {item.partition: item.offset for item in consumer.committed(asked, LIMIT) if item.offset >= 0}
    finally:
        consumer.close()
