"""What Kafka says of offsets that never came: which of them hold a record. Blocking, for a thread.

All of it raises KafkaAccessError where Kafka does not answer: then nothing may be taken for empty.
"""

from collections.abc import Iterable, Mapping, Sequence

import confluent_kafka
import structlog
from confluent_kafka import Consumer, KafkaException

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import missing_acls
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent, partition_of

log = structlog.get_logger("worker")

MOST = 10_000
"""Records that are read for a batch's gaps. More were not lost on Faust's way to the agent: the worker begins anew."""


class PassedOver(FhirlineError):
    """More records than `MOST` never reached the agent. The message names topics and partitions."""


class PositionsUnknown(FhirlineError):
    """Kafka did not say what the group has committed."""


def committed(settings: Settings, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """What the group has committed; 0 where nothing. Raises PositionsUnknown."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group, "log_level": 0}))
    try:
        asked = [confluent_kafka.TopicPartition(*each) for each in places]
        answered = consumer.committed(asked, timeout=settings.session_timeout)
    except KafkaException as error:
        # librdkafka asks on and on for a coordinator that it may not know: only that time is up comes of it.
        lacking = missing_acls(settings, "worker")
        why = f"authorization was taken away: {lacking}" if lacking else error.args[0].name()
        raise PositionsUnknown(f"{settings.group}: {why}") from None
    finally:
        consumer.close()
    for each in answered:
        if each.error is not None:
            raise PositionsUnknown(f"{settings.group}: {each.topic}/{each.partition}: {each.error.name()}")
    return {TopicPartition(each.topic, each.partition): max(0, each.offset) for each in answered}


def missing(
    settings: Settings, raws: Sequence[ConsumerRecord], gaps: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """The records that lie in the gaps of a batch (first offset, offset of the event behind). Raises PassedOver."""
    here = {(raw.topic, raw.partition, raw.offset) for raw in raws}
    first = {place: due for place, (due, _) in gaps.items()}
    beyond = {place: end for place, (_, end) in gaps.items()}
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    with Scanner(settings) as scanner:
        for number, message in enumerate(scanner.read(first, beyond, whole=True), 1):
            if number > MOST:
                raise PassedOver(", ".join(f"{topic}/{partition}" for topic, partition in gaps))
            place, offset = partition_of(message), message.offset() or 0
            if offset >= first[place] and (*place, offset) not in here:
                found.setdefault(place, []).append(from_confluent(message))
        for place, due in first.items():
            kept_from = scanner.first(*place)
            if 0 < due < kept_from:  # a group that has committed nothing begins wherever the log does
                shown = {"topic": place[0], "partition": place[1], "first": due, "kept_from": kept_from}
                log.error("records were deleted before they were mapped", **shown)
    return found


def holding(
    settings: Settings, stood: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> set[TopicPartition]:
    """Partitions that have a record from their offset on before their end, not only a transaction's marker."""
    with Scanner(settings) as scanner:
        return {
            place
            for place, due in stood.items()
            if any((each.offset() or 0) >= due for each in scanner.read({place: due}, {place: ends[place]}, whole=True))
        }


def begins_behind(settings: Settings, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Of partitions with an offset beyond their end, those in which the record before it is not there any more.

    Kafka then begins again at the first record that there is. That is told by reading, not by asking for the end:
    a broker that has just become the leader may know of an earlier one for a while.
    """
    with Scanner(settings) as scanner:
        firsts = {place: next(scanner.read({place: due - 1}), None) for place, due in places.items()}
    return {
        place: places[place]
        for place, first in firsts.items()
        if first is not None and (first.offset() or 0) < places[place] - 1
    }
