"""Raw records for counting what is missing: those since a time, or the newest ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Message

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import ENRICHED, enriched_topic, raw_topic

SECONDS = 10.0


def since(settings: Settings, vendor: str, since_ms: int, progress: Progress | None = None) -> Iterator[ConsumerRecord]:
    """Read the vendor's raw records of a time or later.

    Raises KafkaAccessError, and ConfigurationError where a topic is missing.
    """
    with Scanner(settings, progress) as scanner:
        starts = _offsets(settings, _partitions(scanner, vendor), since_ms)
        for message in scanner.read(starts):
            if message.timestamp()[1] >= since_ms:  # the embedded broker may answer with an earlier offset
                yield from_confluent(message)


def newest(settings: Settings, vendor: str, most: int) -> Iterator[ConsumerRecord]:
    """Read about the ``most`` newest raw records of a vendor, evenly from its partitions."""
    with Scanner(settings) as scanner:
        partitions = _partitions(scanner, vendor)
        share = max(1, most // len(partitions))
        kept: dict[TopicPartition, list[Message]] = {partition: [] for partition in partitions}
        for message in scanner.read(_tails(settings, partitions, share)):
            last = kept[TopicPartition(message.topic() or "", message.partition() or 0)]
            last.append(message)
            del last[:-share]
    for messages in kept.values():
        yield from map(from_confluent, messages)


def envelopes(records: Iterator[ConsumerRecord]) -> Iterator[Envelope]:
    """Open the records that can be read. The others are dead letters, and have no word to count."""
    for record in records:
        try:
            yield envelope_of(record)
        except UnreadableBody:
            continue


def _partitions(scanner: Scanner, vendor: str) -> list[TopicPartition]:
    topics = [raw_topic(vendor), *([enriched_topic(vendor)] if vendor in ENRICHED else [])]
    if missing := [topic for topic in topics if not scanner.partitions(topic)]:
        raise ConfigurationError(f"topic {missing[0]} is missing: run `fhirline topics apply`")
    return scanner.topic_partitions(topics)


def _offsets(
    settings: Settings, partitions: Sequence[TopicPartition], since_ms: int
) -> dict[TopicPartition, int | None]:
    """Find the first offset of a time or later; partitions without such a record are left out."""
    with _asking(settings) as consumer:
        asked = [confluent_kafka.TopicPartition(*partition, since_ms) for partition in partitions]
        found = consumer.offsets_for_times(asked, timeout=SECONDS)
        return {TopicPartition(item.topic, item.partition): item.offset for item in found if item.offset >= 0}


def _tails(settings: Settings, partitions: Sequence[TopicPartition], share: int) -> dict[TopicPartition, int | None]:
    with _asking(settings) as consumer:
        bounds = {
            partition: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*partition), timeout=SECONDS)
            for partition in partitions
        }
        return {bound: max(low, high - share) for bound, (low, high) in bounds.items()}


@contextmanager
def _asking(settings: Settings) -> Iterator[Consumer]:
    """Connect to ask for offsets. Raises KafkaRequestFailed where one is not answered."""
    group = f"{settings.group}.scan"  # librdkafka requires one; nothing is committed
    consumer = new_client(Consumer, librdkafka(settings, **{"group.id": group, "log_level": 0}))
    try:
        yield consumer
    except KafkaException as error:
        raise KafkaRequestFailed(
            f"{PREFIX}BOOTSTRAP: {settings.bootstrap}: offsets were not reported: {error.args[0].name()}"
        ) from None
    finally:
        consumer.close()
