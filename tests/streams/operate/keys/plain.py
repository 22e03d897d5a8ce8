"""Topics as a deployment without encryption leaves them: raw events, dead letters, their status, and state."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    ProducerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
)
from fhirline.streams.operate.dead_letters.cases import Mark, Status
from fhirline.streams.step3_restore.state import PartitionState
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import (
    DEAD_LETTER_STATUS,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
    state_topic,
)
from tests.support.workload import events, produce

RAW_TOPICS = (*map(raw_topic, VENDORS), enriched_topic("infermedica"))
FEW = ("mediquo", "infermedica")
"""Vendors of short tests."""
LETTER_TOPICS = (*map(dead_letter_topic, VENDORS),)
STATE_TOPICS = (*map(state_topic, VENDORS), state_topic("infermedica", enriched=True))


def stored(settings: Settings, *topics: str) -> list[ConsumerRecord]:
    """Return all records of topics as they lie there."""
    with LogScanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


def opened(settings: Settings, *topics: str) -> list[ConsumerRecord]:
    """Return all records of topics as they were meant."""
    with Scanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]


def foreign() -> list[ProducerRecord]:
    """Records of another producer: without our headers, without a key, unreadable, without a value."""
    topic = raw_topic("infermedica")
    survey = b'{"event_type": "survey_finished", "content": {"survey_id": "s-1"}}'
    return [
        ProducerRecord(topic, b"any key", survey, 0, timestamp_ms=1_717_243_300_123),
        ProducerRecord(topic, b"", b"not json", 1, timestamp_ms=1_717_243_300_124),
        ProducerRecord(topic, b"default|survey/s-1", None, 0, headers(tenant="acme"), 1_717_243_300_125),
    ]


@dataclass
class Plain:
    """Records of the topics. ``written``: raw records, in the order of their positions."""

    settings: Settings
    written: list[ConsumerRecord] = field(default_factory=list)
    letters: list[ConsumerRecord] = field(default_factory=list)
    normalize: Normalizer | None = None

    def write(self, records: Iterable[ProducerRecord]) -> list[ConsumerRecord]:
        """Write raw records, and the letters and state that a worker makes of them."""
        raws = produce(self.settings, records, in_clear=True)
        self.written += raws
        normalize = build_normalizer(self.settings) if self.normalize is None else self.normalize
        self.normalize = normalize
        states: dict[TopicPartition, PartitionState] = {}
        made: list[ProducerRecord] = []
        for raw in raws:
            state = states.setdefault(raw.topic_partition, PartitionState())
            mapped = map_event(raw, normalize, state, self.settings.partitions)
            topic = state_topic(raw.vendor, enriched=raw.topic.endswith(".enriched"))
            made += state.record_updates(topic, raw.partition, mapped.key, mapped.state_updates)
            made += [record for record in mapped.records if record.topic.startswith("dead-letter.")]
        positions = {record.position for record in produce(self.settings, made)}
        letters = [record for record in stored(self.settings, *LETTER_TOPICS) if record.position in positions]
        self.letters += letters
        return letters

    def redriven(self, letter: ConsumerRecord, status: Status) -> None:
        """Write what a redrive writes of a letter: its event once more, and the mark."""
        position = RecordPosition.parse(dict(letter.headers)["raw"].decode())
        assert position is not None
        first = next(raw for raw in self.written if raw.position == position)
        own = [*first.headers, *headers(attempt="2", first_raw=str(position), redrive="k")]
        again = ProducerRecord(first.topic, first.key or b"", first.value, first.partition, own, first.timestamp_ms)
        (failed,) = self.write([again])
        redriven = self.written[-1].position
        mark = Mark(status, 2, redriven, failed.position, "k", "1")
        produce(self.settings, [ProducerRecord(DEAD_LETTER_STATUS, str(position).encode(), mark.encode(), 0)])


def of_few(count: int, seed: int) -> list[ProducerRecord]:
    """Return events of `FEW` vendors."""
    topics = {*map(raw_topic, FEW)}
    return [*islice((event for event in events(20 * count, seed) if event.topic in topics), count)]


def deploy(settings: Settings, count: int, seed: int) -> Plain:
    """Write events of `FEW` vendors, and of another producer."""
    plain = Plain(settings)
    plain.write([*of_few(count, seed), *foreign()])
    return plain
