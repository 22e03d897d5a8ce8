"""Ask Kafka about offsets whose records never came. All functions block: call them in a thread.

All raise KafkaAccessError where Kafka does not answer, so that no answer is not taken for an empty log.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import confluent_kafka
import structlog
from confluent_kafka import Consumer, KafkaException

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import missing_acls
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.committed import committed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent, partition_of

log = structlog.get_logger("worker")

MAX_GAP_RECORDS = 10_000
"""The most records that are read for a batch's gaps. Faust drops fewer; with more, the worker had better start anew."""


class GapTooLarge(FhirlineError):
    """A batch's gaps hold more than `MAX_GAP_RECORDS` records. The message names the partitions."""


class PositionsUnknown(FhirlineError):
    """Kafka did not report what the group has committed."""


class Committed(NamedTuple):
    """The group's committed offset of a partition, with the metadata that was committed with it."""

    offset: int
    metadata: str = ""


def committed_offsets(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
    """Return the group's committed offsets; 0 where it has none. Raises PositionsUnknown."""
    consumer = new_client(Consumer, librdkafka(settings, **{"group.id": settings.group, "log_level": 0}))
    try:
        answered = committed(consumer, partitions, settings.session_timeout)
    except KafkaException as error:
        # librdkafka goes on asking for a coordinator that it may not know, and reports only a timeout.
        lacking = missing_acls(settings, "worker")
        why = f"authorization was taken away: {lacking}" if lacking else error.args[0].name()
        raise PositionsUnknown(f"{settings.group}: {why}") from None
    finally:
        consumer.close()
    return {
        TopicPartition(answer.topic, answer.partition): Committed(max(0, answer.offset), _metadata(answer))
        for answer in answered
    }


def _metadata(answer: confluent_kafka.TopicPartition) -> str:
    """Return the metadata of a committed offset; "" for unreadable text, which is no mark of the worker's.

    The client does not end the text of a foreign tool, and reads whatever follows in memory as a part of it: bytes that
    may not be UTF-8 (`streams.step2_consume.unfinished` ends its own).
    """
    try:
        return answer.metadata or ""
    except UnicodeDecodeError:
        return ""


def read_gaps(
    settings: Settings, records: Sequence[ConsumerRecord], gaps: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Read the records that a batch misses, by partition.

    ``gaps``: first missing offset, and the offset of the record behind the last missing one. Raises GapTooLarge.
    """
    present = {record.position for record in records}
    starts = {partition: first for partition, (first, _) in gaps.items()}
    ends = {partition: end for partition, (_, end) in gaps.items()}
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    with LogScanner(settings) as scanner:
        for number, message in enumerate(scanner.stored(starts, ends, whole=True), 1):
            if number > MAX_GAP_RECORDS:
                raise GapTooLarge(", ".join(map(str, gaps)))
            partition, offset = partition_of(message), message.offset() or 0
            if offset >= starts[partition] and (*partition, offset) not in present:
                found.setdefault(partition, []).append(from_confluent(message))
        for partition, first in starts.items():
            kept_from = scanner.first(*partition)
            if 0 < first < kept_from:  # at 0 the group has committed nothing, and begins where the log does
                shown = {"topic": partition.topic, "partition": partition.partition}
                log.error("records were deleted before they were mapped", **shown, first=first, kept_from=kept_from)
    return found


def partitions_with_records(
    settings: Settings, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> set[TopicPartition]:
    """Return the partitions that have a record between start and end, and not only transactions' markers."""
    with LogScanner(settings) as scanner:
        return {
            partition
            for partition, start in starts.items()
            if any(
                (message.offset() or 0) >= start
                for message in scanner.stored({partition: start}, {partition: ends[partition]}, whole=True)
            )
        }


def truncated_partitions(settings: Settings, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the partitions whose record before the offset no longer exists, with that offset.

    Such a log was cut off or made anew, and Kafka answers with its first record. The record is read because an end
    offset proves nothing: a broker that has just become the leader may report an earlier one for a while.
    """
    with LogScanner(settings) as scanner:
        firsts = {
            partition: next(scanner.stored({partition: offset - 1}), None) for partition, offset in offsets.items()
        }
    return {
        partition: offsets[partition]
        for partition, first in firsts.items()
        if first is not None and (first.offset() or 0) < offsets[partition] - 1
    }
