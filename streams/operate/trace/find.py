"""Finding the records of a resource or an event, by key, by event key and by position (docs/contracts.md).

A canonical record has the position of its raw record in a header, so the raw record is read directly. In the other
direction, an event's records have the partition number of its Provenance. That is searched first, by the ids that it
would have for every configured vendor and tenant, before larger topics are read.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.identity import Naming, key
from fhirline.mappers.pipeline.common_resources import target_order
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
from fhirline.streams.operate.trace.raw import RawReader, readable
from fhirline.topics.declared import (
    BUNDLE,
    DEAD_LETTER_STATUS,
    OUTCOME,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    canonical_topic,
    dead_letter_topic,
)
from fhirline.topics.partition import partition_for

PROVENANCE = canonical_topic("Provenance")
RAW_TOPICS = "raw."


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """A record without its value. ``size``: bytes of the value, None for a tombstone. ``headers``: as text."""

    position: RecordPosition
    timestamp_ms: int
    key: str
    size: int | None
    headers: dict[str, str]

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
    """The records of a resource.

    ``history``: those that compaction has left, the oldest first. ``provenances``: one per event that made it.
    ``raws``: position → raw record, None where it is gone. One with ``key_destroyed`` is there, and cannot be read.
    """

    resource: str
    history: list[RecordSummary] = field(default_factory=list)
    provenances: list[RecordSummary] = field(default_factory=list)
    raws: dict[str, ConsumerRecord | None] = field(default_factory=dict)


@dataclass(slots=True)
class EventTrace:
    """The records of an event.

    ``raws``: as of a resource; each delivery has its own. ``written``: canonical records whose last value this event
    wrote, or gave the greatest version. ``made``: targets of its Provenance, which are what its mapping made, and may
    have been written by a later event since. Byte-equal events of several tenants have one event key, and the targets
    of each tenant. ``messages``: Bundles and outcomes. ``letters``: dead letters with their status.
    """

    event_key: str
    raws: dict[str, ConsumerRecord | None] = field(default_factory=dict)
    written: list[RecordSummary] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    messages: list[RecordSummary] = field(default_factory=list)
    letters: list[tuple[RecordSummary, Any]] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not (self.raws or self.written or self.messages or self.letters)


class Tracer:
    """Finds the records of resources and events. Raises KafkaAccessError where Kafka does not answer."""

    def __init__(self, settings: Settings, scanner: Scanner) -> None:
        self._settings = settings
        self._scanner = scanner
        self._naming = Naming(settings.base, settings.server_base or "")
        self._vendors = load_vendors(settings.vendors_file)
        self._raws = RawReader(scanner)

    # -- from a resource

    def latest(self, found: ResourceTrace) -> ConsumerRecord | None:
        """Return the raw record that the resource's last value was made from."""
        origin = found.history[-1].headers.get(headers.RAW, "") if found.history else ""
        return readable(found.raws).get(origin)

    def resource(self, reference: str) -> ResourceTrace:
        """Find the records of ``Type/id``, the events that made it, and their raw records."""
        found = ResourceTrace(reference)
        resource_type = reference.partition("/")[0]
        patientless = resource_type in PATIENTLESS_TYPES
        number = partition_for(reference, self._settings.partitions) if patientless else None
        partitions = self._partitions([canonical_topic(resource_type)], number)
        wanted = reference.encode()
        found.history = [RecordSummary.of(message) for message in self._read(partitions) if message.key() == wanted]
        numbers = {record.position.partition for record in found.history}
        beside = [TopicPartition(PROVENANCE, number) for number in numbers]
        last: dict[str, RecordSummary] = {}
        for message in self._read(self._partitions([PROVENANCE]) if patientless else beside):
            if (value := message.value()) and wanted in value and reference in targets(value):
                record = RecordSummary.of(message)
                last[record.key] = record
        found.provenances = sorted(last.values(), key=lambda record: record.position)
        for record in (*found.history, *found.provenances):
            origin = record.headers.get(headers.RAW)
            if origin and origin not in found.raws and origin.startswith(RAW_TOPICS):
                found.raws[origin] = self.raw(origin)
        return found

    def raw(self, position: str) -> ConsumerRecord | None:
        """Read the raw record at ``topic/partition/offset``, or its encrypted copy; None where both are gone."""
        return self._raws.at(position)

    def missing(self, position: str) -> str:
        """Explain why no record can be at a position; empty where the log's end does not show it."""
        return self._raws.missing(position)

    # -- from an event

    def event(self, event_key: str, raw: ConsumerRecord | None = None, vendors: Iterable[str] = ()) -> EventTrace:
        """Find the records of an event. ``raw``: one of its raw records, if known. ``vendors``: only of these."""
        found = EventTrace(event_key)
        chosen = tuple(vendors) or self._vendors.names
        provenances = self._provenances(event_key, chosen)
        there = [message for message in provenances if message.value() is not None]
        found.made = [*dict.fromkeys(name for message in there for name in targets(message.value() or b"{}"))]
        erased = {message.partition() or 0 for message in provenances if message.value() is None}
        partitions = self._beside({message.partition() or 0 for message in there})
        partitions |= {TopicPartition(topic, number) for topic in (BUNDLE, OUTCOME) for number in erased}
        for message in self._read(partitions):
            record = RecordSummary.of(message)
            if record.headers.get(headers.EVENT_KEY) == event_key or (
                raw is not None and record.headers.get(headers.RAW) == str(raw.position)
            ):
                (found.messages if record.position.topic in (BUNDLE, OUTCOME) else found.written).append(record)
        for records in (found.written, found.messages):  # partitions are read in no order
            records.sort(key=lambda record: (*target_order(record.key), record.position.offset))
        self._find_letters(found, chosen)
        self._find_raws(found, raw, chosen)
        return found

    def _provenances(self, event_key: str, vendors: Iterable[str]) -> list[Message]:
        """Find the event's Provenances, by the ids of all vendors and tenants (mapping.md §4.1, §5.3).

        A tombstone of one, as an erasure writes, still leads to the partitions of the event's Bundles.
        """
        wanted = {
            f"Provenance/{self._naming.id(vendor, tenant, 'Provenance', 'event', key(event_key))}".encode()
            for vendor in vendors
            for tenant in self._vendors[vendor].tenants
        }
        last: dict[bytes, Message] = {}
        for message in self._read(self._partitions([PROVENANCE])):
            stored = message.key() or b""
            known = stored in wanted or stored in last  # an erasure's tombstone has the erasure's event key
            if known or header(headers_of(message), headers.EVENT_KEY) == event_key:
                last[stored] = message
        return [message for _, message in sorted(last.items())]

    def _find_letters(self, found: EventTrace, vendors: Iterable[str]) -> None:
        letters = [
            RecordSummary.of(message)
            for message in self._read(self._partitions([dead_letter_topic(vendor) for vendor in vendors]))
            if header(headers_of(message), headers.EVENT_KEY) == found.event_key
        ]
        letters.sort(key=lambda letter: letter.position)  # partitions are read in no order
        if letters:
            wanted = {_case(letter).encode() for letter in letters}
            statuses = {
                message.key(): message.value()
                for message in self._read([TopicPartition(DEAD_LETTER_STATUS, 0)])
                if message.key() in wanted
            }
            found.letters = [
                (letter, orjson.loads(statuses.get(_case(letter).encode()) or b"null")) for letter in letters
            ]

    def _find_raws(self, found: EventTrace, raw: ConsumerRecord | None, vendors: Iterable[str]) -> None:
        """Read the raw records that other records name. Without any, search the raw topics."""
        if raw is not None:
            found.raws[str(raw.position)] = raw
        for record in (*found.written, *found.messages, *(letter for letter, _ in found.letters)):
            origin = record.headers.get(headers.RAW)
            own = record.headers.get(headers.EVENT_KEY) == found.event_key
            if own and origin and origin not in found.raws and origin.startswith(RAW_TOPICS):
                found.raws[origin] = self.raw(origin)
        if not found.raws:
            for raw in self._raws.search(found.event_key, vendors):
                found.raws[str(raw.position)] = raw
        found.raws = dict(sorted(found.raws.items()))  # the same order whichever raw record was known

    def earlier(self, raw: ConsumerRecord, proceed: Callable[[], None] = lambda: None) -> Iterator[ConsumerRecord]:
        """Read the records of the same key before this one, whose events its state was built from.

        ``proceed`` is called for each record of the partition; an exception that it raises ends the search.
        """
        partition = raw.topic_partition
        for message in self._scanner.read({partition: None}, {partition: raw.offset}):
            proceed()
            if message.key() == raw.key:
                yield from_confluent(message)

    # -- reading

    def _read(self, partitions: Iterable[TopicPartition]) -> Iterator[Message]:
        return self._scanner.read(dict.fromkeys(partitions))

    def _partitions(self, topics: Iterable[str], number: int | None = None) -> list[TopicPartition]:
        """Return the partitions of some topics, or those with one number."""
        if number is not None:
            return [TopicPartition(topic, number) for topic in topics]
        return self._scanner.topic_partitions(topics)

    def _beside(self, numbers: Set[int]) -> set[TopicPartition]:
        """Return the partitions of an event's records: those with its Provenances' numbers, all of patientless types.

        No canonical record is there without a Provenance (mapping.md §5.3), but an outcome may be.
        """
        if not numbers:
            return {*self._partitions([OUTCOME])}
        patientless = [canonical_topic(name) for name in PATIENTLESS_TYPES]
        topics = (*map(canonical_topic, RESOURCE_TYPES), BUNDLE, OUTCOME)
        own = {TopicPartition(topic, number) for topic in topics for number in numbers}
        return own | {*self._partitions(patientless)}


def _case(letter: RecordSummary) -> str:
    """Return the id of a letter's case, which is the key of its status (`dead_letters.cases`)."""
    return letter.headers.get(headers.FIRST_RAW) or letter.headers.get(headers.RAW) or str(letter.position)


def targets(provenance: bytes) -> list[str]:
    """Return the references of a Provenance's targets."""
    named = orjson.loads(provenance).get("target") or ()
    return [target["reference"] for target in named if "reference" in target]
