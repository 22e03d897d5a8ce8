"""Where the selected events lie: a span of offsets for each partition of each raw topic.

kafka-python answers by timestamp and where partitions begin; the end is fixed once, at the start, so that a replay
under live input ends. An end offset that was asked for is too low on the embedded broker (faust.md §6), so from there
on the partition is read to its end: a few records, on any broker.
"""

from collections.abc import Collection
from dataclasses import dataclass

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.embedded_quirks import offset_at_time
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of
from fhirline.streams.operate.replay.selection import Selection
from fhirline.topics.declared import ENRICHED, enriched_topic, raw_topic, state_topic


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets ``start`` to ``end`` (exclusive) of one raw partition, and which of them (None: all).

    ``live_from``: where the partition ended when the replay began; events behind it are the live workers'.
    ``complete``: the partition is there from its first record on, so that folds can be made from nothing.
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
        """``topic/partition``, as positions in the header ``raw`` begin."""
        return str(self.place)

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def state_topic(self) -> str:
        return state_topic(self.vendor, enriched=self.topic == enriched_topic(self.vendor))


def spans(settings: Settings, selection: Selection) -> tuple[Span, ...]:
    """The spans, largest first. Raises KafkaAccessError, and ConfigurationError where a topic is missing."""
    with Scanner(settings) as scanner:
        places: dict[TopicPartition, str] = {}
        for vendor in selection.vendors:
            for topic in (raw_topic(vendor), *([enriched_topic(vendor)] if vendor in ENRICHED else [])):
                known = scanner.partitions(topic)
                if not known:
                    raise ConfigurationError(f"topic {topic} is missing: run `fhirline topics apply`")
                if unknown := sorted(set(selection.partitions or ()) - set(known)):
                    raise ConfigurationError(f"--partitions: {topic} has no partition {unknown[0]}, only {known}")
                places |= {
                    TopicPartition(topic, each): vendor for each in known if each in (selection.partitions or known)
                }
        begin, asked, since = _positions(settings, places, selection.since_ms)
        ends = dict(asked)
        for message in scanner.read({each: max(begin[each], asked[each] - 1) for each in places}):
            ends[partition_of(message)] = max(ends[partition_of(message)], (message.offset() or 0) + 1)
        letters = open_letters(settings, selection.vendors) if selection.dead_letters else None
    found = []
    for place, vendor in places.items():
        end = ends[place]
        first = since[place]
        start = end if first is None else min(first, end)
        offsets = None
        if letters is not None:
            offsets = tuple(sorted(each for each in letters.get(place, ()) if start <= each < end))
            start, end = (offsets[0], offsets[-1] + 1) if offsets else (end, end)
        found.append(Span(vendor, *place, start, end, ends[place], begin[place] == 0, offsets))
    return tuple(sorted(found, key=lambda each: (each.start - each.end, each.source)))


def _positions(
    settings: Settings, places: Collection[TopicPartition], since_ms: int | None
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int], dict[TopicPartition, int | None]]:
    """Beginnings, ends as the broker tells them, and the first offsets of a time (None: no record that late)."""
    asked = [KafkaPartition(*place) for place in places]
    try:
        consumer = KafkaConsumer(**kafka_python(settings), group_id=None, enable_auto_commit=False)
        try:
            begin = {TopicPartition(*place): offset for place, offset in consumer.beginning_offsets(asked).items()}
            end = {TopicPartition(*place): offset for place, offset in consumer.end_offsets(asked).items()}
            if since_ms is None:
                return begin, end, dict(begin)
            by_time = consumer.offsets_for_times(dict.fromkeys(asked, since_ms))
        finally:
            consumer.close()
    except KafkaError as error:
        raise KafkaRequestFailed(f"FHIRLINE_BOOTSTRAP: {settings.bootstrap}: {type(error).__name__}") from None
    since = {TopicPartition(*place): offset_at_time(answer) for place, answer in by_time.items()}
    return begin, end, since


def open_letters(settings: Settings, vendors: Collection[str]) -> dict[TopicPartition, set[int]]:
    """Where the raw records lie of dead letters that are open, or failed again (`fhirline dead-letters`)."""
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.streams.operate.dead_letters.cases import Status

    found: dict[TopicPartition, set[int]] = {}
    with Board(settings, vendors) as board:
        for case in board.read():
            if case.status in (Status.OPEN, Status.FAILED) and (raw := case.last.raw):
                found.setdefault(raw.topic_partition, set()).add(raw.offset)
    return found
