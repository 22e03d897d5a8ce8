"""The offsets of the selected events: a range for each partition of each raw topic.

The end of a range is fixed once, at the start, so that a replay ends while new events arrive. kafka-python reports
where partitions begin and end, and offsets by timestamp. Its end offset is too low on the embedded broker (faust.md
§6), so the partition is read from there to its end: a few records, on any broker.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.embedded_quirks import offset_at_time
from fhirline.streams.kafka.encryption.copied_ranges import complete, read_ranges
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, position_of
from fhirline.streams.operate.replay.selection import Selection
from fhirline.topics.declared import ENRICHED, enriched_topic, raw_topic, state_topic


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets ``start`` to ``end`` (exclusive) of one raw partition, or those of them in ``offsets``.

    ``live_from``: where the partition ended when the replay began; later events are live events of the workers.
    ``complete``: the partition still has every event, so that state can be built from nothing.
    """

    vendor: str
    topic: str
    partition: int
    start: int
    end: int
    live_from: int
    complete: bool
    offsets: tuple[int, ...] | None = None

    @property
    def source(self) -> str:
        """Return ``topic/partition``, with which the positions in the header ``raw`` begin."""
        return str(self.topic_partition)

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def state_topic(self) -> str:
        return state_topic(self.vendor, enriched=self.topic == enriched_topic(self.vendor))

    @property
    def length(self) -> int:
        return self.end - self.start


def offset_ranges(settings: Settings, selection: Selection) -> tuple[OffsetRange, ...]:
    """Find the ranges, the longest first. Raises KafkaAccessError, and ConfigurationError where a topic is missing."""
    with Scanner(settings) as scanner:
        vendors = _partitions(scanner, selection)
        bounds = _bounds(settings, vendors, selection.since_ms)
        ends = dict(bounds.ends)
        for message in scanner.stored({item: max(bounds.begins[item], ends[item] - 1) for item in vendors}):
            position = position_of(message)
            ends[position.topic_partition] = max(ends[position.topic_partition], position.offset + 1)
        copied = read_ranges(scanner, [partition for partition in vendors if bounds.begins[partition]])
        letters = open_letters(settings, selection.vendors) if selection.dead_letters else None
    found = []
    for partition, vendor in vendors.items():
        end, since = ends[partition], bounds.since[partition]
        start = end if since is None else min(since, end)
        offsets = None
        if letters is not None:
            offsets = tuple(sorted(offset for offset in letters.get(partition, ()) if start <= offset < end))
            start, end = (offsets[0], offsets[-1] + 1) if offsets else (end, end)
        whole = complete(bounds.begins[partition], copied.get(partition))
        found.append(OffsetRange(vendor, *partition, start, end, ends[partition], whole, offsets))
    return tuple(sorted(found, key=lambda item: (-item.length, item.source)))


def _partitions(scanner: Scanner, selection: Selection) -> dict[TopicPartition, str]:
    """Return the selected partitions with their vendors."""
    found: dict[TopicPartition, str] = {}
    for vendor in selection.vendors:
        for topic in (raw_topic(vendor), *([enriched_topic(vendor)] if vendor in ENRICHED else [])):
            known = scanner.partitions(topic)
            if not known:
                raise ConfigurationError(f"topic {topic} is missing: run `fhirline topics apply`")
            if unknown := sorted(set(selection.partitions or ()) - set(known)):
                raise ConfigurationError(f"--partitions: {topic} has no partition {unknown[0]}, only 0 to {max(known)}")
            wanted = selection.partitions or known
            found |= {TopicPartition(topic, number): vendor for number in known if number in wanted}
    return found


class _Bounds(NamedTuple):
    """First and end offsets as the broker reports them, and the first offsets at a time (None: no record so late)."""

    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    since: Mapping[TopicPartition, int | None]


def _bounds(settings: Settings, partitions: Collection[TopicPartition], since_ms: int | None) -> _Bounds:
    asked = [KafkaPartition(*partition) for partition in partitions]
    try:
        consumer = KafkaConsumer(**kafka_python(settings), group_id=None, enable_auto_commit=False)
        try:
            begins = {TopicPartition(*item): offset for item, offset in consumer.beginning_offsets(asked).items()}
            ends = {TopicPartition(*item): offset for item, offset in consumer.end_offsets(asked).items()}
            if since_ms is None:
                return _Bounds(begins, ends, begins)
            answers = consumer.offsets_for_times(dict.fromkeys(asked, since_ms))
        finally:
            consumer.close()
    except KafkaError as error:
        raise KafkaRequestFailed(f"FHIRLINE_BOOTSTRAP: {settings.bootstrap}: {type(error).__name__}") from None
    since = {TopicPartition(*item): offset_at_time(answer) for item, answer in answers.items()}
    return _Bounds(begins, ends, since)


def open_letters(settings: Settings, vendors: Collection[str]) -> dict[TopicPartition, set[int]]:
    """Return the raw offsets of events whose dead letter is open or failed again (`fhirline dead-letters`)."""
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.streams.operate.dead_letters.cases import Status

    found: dict[TopicPartition, set[int]] = {}
    with Board(settings, vendors) as board:
        for case in board.read():
            if case.status in (Status.OPEN, Status.FAILED) and (raw := case.last.raw):
                found.setdefault(raw.topic_partition, set()).add(raw.offset)
    return found
