"""What `fhirline trace` finds: records by key, by event, by place (docs/contracts.md: canonical headers).

A canonical record names its raw record in a header, so that one is read directly. The other way, an event's records lie
in one partition number, which its Provenance tells: that is looked for under the id that every configured vendor and
tenant would give it, before anything larger is read.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.identity import Naming, key
from fhirline.mappers.pipeline.common_resources import target_order
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
    headers_of,
    position_of,
    timestamp_ms,
)
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import (
    BUNDLE,
    DEAD_LETTER_STATUS,
    ENRICHED,
    OUTCOME,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    canonical_topic,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
)
from fhirline.topics.partition import partition_for

PROVENANCE = canonical_topic("Provenance")
RAW_TOPICS = "raw."


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """A record without its value: where it lies, when it was written, and its headers as text."""

    position: RecordPosition
    timestamp_ms: int
    key: str
    size: int | None
    """Bytes of the value; None for a tombstone."""
    named: dict[str, str]

    @classmethod
    def of(cls, message: Message) -> Self:
        sent, value = headers_of(message), message.value()
        return cls(
            position_of(message),
            timestamp_ms(message),
            (message.key() or b"").decode("utf-8", "replace"),
            None if value is None else len(value),
            {name: text for name, _ in sent if (text := header(sent, name)) is not None},
        )


@dataclass(slots=True)
class ResourceTrace:
    """A resource's records, oldest first; ``history`` is what compaction has left of it."""

    resource: str
    history: list[RecordSummary] = field(default_factory=list)
    provenances: list[RecordSummary] = field(default_factory=list)
    """Every event that made it, its latest or not."""
    raws: dict[str, ConsumerRecord | None] = field(default_factory=dict)
    """Coordinates → the raw record; None where it is gone."""


@dataclass(slots=True)
class EventTrace:
    """An event's raw records (a retry is another one) and all that was written for it."""

    event_key: str
    raws: dict[str, ConsumerRecord | None] = field(default_factory=dict)
    written: list[RecordSummary] = field(default_factory=list)
    """Canonical records whose last value this event wrote, or contributed the greatest version to."""
    made: list[str] = field(default_factory=list)
    """Targets of its Provenance: what its mapping made, whoever has written it since. Where byte-equal events came for
    several tenants, and so have one key, of each tenant's."""
    messages: list[RecordSummary] = field(default_factory=list)
    """Bundles and outcomes."""
    letters: list[tuple[RecordSummary, Any]] = field(default_factory=list)
    """Dead letters, each with what is known of its handling."""

    @property
    def nothing(self) -> bool:
        return not (self.raws or self.written or self.messages or self.letters)


class Tracer:
    """Raises KafkaAccessError where Kafka does not answer."""

    def __init__(self, settings: Settings, scanner: Scanner) -> None:
        self._settings = settings
        self._scanner = scanner
        self._naming = Naming(settings.base, settings.server_base or "")
        self._vendors = load_vendors(settings.vendors_file)

    # -- from a resource

    def latest(self, found: ResourceTrace) -> ConsumerRecord | None:
        """The raw record that the resource's last value came from."""
        origin = found.history[-1].named.get(headers.RAW, "") if found.history else ""
        return found.raws.get(origin)

    def resource(self, reference: str) -> ResourceTrace:
        """Everything about ``Type/id``: its records, the events that made it, and their raw records."""
        found = ResourceTrace(reference)
        topic = canonical_topic(reference.partition("/")[0])
        own = reference.partition("/")[0] in PATIENTLESS_TYPES
        places = self._places([topic], partition_for(reference, self._settings.partitions) if own else None)
        wanted = reference.encode()
        found.history = [RecordSummary.of(each) for each in self._read(places) if each.key() == wanted]
        numbers = {each.position.partition for each in found.history}
        for each in self._read(
            self._places([PROVENANCE]) if own else [TopicPartition(PROVENANCE, number) for number in numbers]
        ):
            if (value := each.value()) and wanted in value and reference in targets(value):
                found.provenances.append(RecordSummary.of(each))
        last = {each.key: each for each in found.provenances}
        found.provenances = sorted(last.values(), key=lambda each: each.position)
        for record in (*found.history, *found.provenances):
            origin = record.named.get(headers.RAW)
            if origin and origin not in found.raws and origin.startswith(RAW_TOPICS):
                found.raws[origin] = self.raw(origin)
        return found

    def raw(self, position: str) -> ConsumerRecord | None:
        """The raw record at ``topic/partition/offset``; None where it is gone."""
        parsed = RecordPosition.parse(position)
        message = self._scanner.at(parsed) if parsed else None
        return from_confluent(message) if message is not None else None

    # -- from an event

    def event(self, event_key: str, place: ConsumerRecord | None = None, vendors: Iterable[str] = ()) -> EventTrace:
        """Everything about an event. ``place``: a raw record of it that is known already; ``vendors``: of whom only."""
        found = EventTrace(event_key)
        chosen = tuple(vendors) or self._vendors.names
        provenances = self._provenances(event_key, chosen)
        found.made = [*dict.fromkeys(target for each in provenances for target in targets(each.value() or b"{}"))]
        places = self._beside({each.partition() or 0 for each in provenances})
        for each in self._read(places):
            record = RecordSummary.of(each)
            if record.named.get(headers.EVENT_KEY) == event_key or (
                place is not None and record.named.get(headers.RAW) == str(place.position)
            ):
                (found.messages if record.position.topic in (BUNDLE, OUTCOME) else found.written).append(record)
        for records in (found.written, found.messages):  # partitions are read in no order
            records.sort(key=lambda each: (*target_order(each.key), each.position.offset))
        self._letters(found, chosen)
        self._raws(found, place, chosen)
        return found

    def _provenances(self, event_key: str, vendors: Iterable[str]) -> list[Message]:
        """The event's, under the id that it has for whichever vendor and tenant (mapping.md §4.1, §5.3)."""
        wanted = {
            f"Provenance/{self._naming.id(vendor, tenant, 'Provenance', 'event', key(event_key))}".encode()
            for vendor in vendors
            for tenant in self._vendors[vendor].tenants
        }
        last: dict[bytes, Message] = {}
        for each in self._read(self._places([PROVENANCE])):
            if each.key() in wanted or header(headers_of(each), headers.EVENT_KEY) == event_key:
                last[each.key() or b""] = each
        return [each for _, each in sorted(last.items()) if each.value() is not None]

    def _letters(self, found: EventTrace, vendors: Iterable[str]) -> None:
        letters = [
            RecordSummary.of(each)
            for each in self._read(self._places([dead_letter_topic(vendor) for vendor in vendors]))
            if header(headers_of(each), headers.EVENT_KEY) == found.event_key
        ]
        if letters:
            wanted = {str(each.position).encode() for each in letters}
            known = {
                each.key(): each.value()
                for each in self._read([TopicPartition(DEAD_LETTER_STATUS, 0)])
                if each.key() in wanted
            }
            found.letters = [
                (each, orjson.loads(known.get(str(each.position).encode()) or b"null")) for each in letters
            ]

    def _raws(self, found: EventTrace, place: ConsumerRecord | None, vendors: Iterable[str]) -> None:
        """By position where a record names them; else by looking through the raw topics."""
        if place is not None:
            found.raws[str(place.position)] = place
        for record in (*found.written, *found.messages, *(letter for letter, _ in found.letters)):
            origin = record.named.get(headers.RAW)
            own = record.named.get(headers.EVENT_KEY) == found.event_key
            if own and origin and origin not in found.raws and origin.startswith(RAW_TOPICS):
                found.raws[origin] = self.raw(origin)
        if not found.raws:
            for raw in self._look_through(found.event_key, vendors):
                found.raws[str(raw.position)] = raw
        found.raws = dict(sorted(found.raws.items()))  # whichever of them the question began with

    def _look_through(self, event_key: str, vendors: Iterable[str]) -> Iterator[ConsumerRecord]:
        topics = [raw_topic(each) for each in vendors] + [enriched_topic(each) for each in vendors if each in ENRICHED]
        for each in self._read(self._places(topics)):
            raw = from_confluent(each)
            if event_key_of(raw) == event_key:
                yield raw

    def earlier(self, raw: ConsumerRecord) -> Iterator[ConsumerRecord]:
        """The records of the same key before this one: what its folds knew."""
        partition = raw.topic_partition
        for each in self._scanner.read({partition: None}, {partition: raw.offset}):
            if each.key() == raw.key:
                yield from_confluent(each)

    # -- reading

    def _read(self, places: Iterable[TopicPartition]) -> Iterator[Message]:
        return self._scanner.read(dict.fromkeys(places))

    def _places(self, topics: Iterable[str], number: int | None = None) -> list[TopicPartition]:
        if number is not None:
            return [TopicPartition(topic, number) for topic in topics]
        return self._scanner.topic_partitions(topics)

    def _beside(self, numbers: Set[int]) -> set[TopicPartition]:
        """Where an event's records lie: its Provenance's partition, and of types without a patient anywhere.

        Nothing canonical is there without a Provenance (mapping.md §5.3); an outcome may be.
        """
        if not numbers:
            return {*self._places([OUTCOME])}
        shared = [canonical_topic(each) for each in PATIENTLESS_TYPES]
        topics = (*map(canonical_topic, RESOURCE_TYPES), BUNDLE, OUTCOME)
        return {TopicPartition(topic, number) for topic in topics for number in numbers} | {*self._places(shared)}


def targets(provenance: bytes) -> list[str]:
    """The references that a Provenance names as its targets."""
    named = orjson.loads(provenance).get("target") or ()
    return [each["reference"] for each in named if "reference" in each]


def event_key_of(raw: ConsumerRecord) -> str | None:
    """The event's key: the gateway's header, else computed; None of what is no event."""
    if told := header(raw.headers, headers.EVENT_KEY):
        return told
    try:
        return envelope_of(raw).event_key
    except UnreadableBody:
        return None
