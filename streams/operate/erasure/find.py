"""What there is of a patient on the topics: which keys, which records, whose raw partitions.

The worker writes no list of a patient's resources. It is put together again, from three sides at once, each of which
finds what another misses:

* **raw**: the patient's raw records, and what today's mapping makes of them;
* **origin**: canonical records whose header ``raw`` names one of those records (also such as today's mapping no longer
  makes), or a record that another resource of the patient came from (also where raw's retention is over);
* **reference**: canonical records that refer to ``Patient/<id>``, and each Provenance of a resource found.

Only the patient's own partitions are read: all that follows from a patient's events shares one partition number
(docs/contracts.md). Types that belong to no patient (Practitioner, Organization, Device, …) are left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.azodha import reader
from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.mappers.registry import raw_key
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
    headers_of,
    partition_of,
    timestamp_ms,
)
from fhirline.streams.step3_restore.block import Compartment
from fhirline.streams.step4_normalize.follow import follow
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import (
    BUNDLE,
    ENRICHED,
    OUTCOME,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    canonical_topic,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
    state_topic,
)
from fhirline.topics.partition import partition_for

CANONICAL = tuple(canonical_topic(each) for each in RESOURCE_TYPES if each not in PATIENTLESS_TYPES)
MESSAGES = (BUNDLE, OUTCOME)
PROVENANCE = canonical_topic("Provenance")


@dataclass(slots=True)
class Remains:
    """Records of one partition that no tombstone can take away: they go when the topic's retention ends."""

    records: int = 0
    oldest_ms: int = 0
    newest_ms: int = 0
    first_offset: int = 0
    last_offset: int = 0

    def add(self, message: Message) -> None:
        at, offset = timestamp_ms(message), message.offset() or 0
        if not self.records:
            self.oldest_ms, self.first_offset = at, offset
        self.records += 1
        self.oldest_ms, self.newest_ms = min(self.oldest_ms, at), max(self.newest_ms, at)
        self.last_offset = offset


@dataclass(slots=True)
class Found:
    """All that is known of a patient. ``live``: canonical keys whose last value is none of a tombstone, by place."""

    compartments: dict[str, Compartment]
    """By raw key: the patient's own, and what else is the patient's (a survey named by its id alone)."""
    live: dict[tuple[TopicPartition, str], str] = field(default_factory=dict)
    """(topic and partition, key) → by which way it was found."""
    state: set[tuple[TopicPartition, bytes]] = field(default_factory=set)
    remains: dict[TopicPartition, Remains] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    """Every canonical key that was ever the patient's, tombstoned or not."""
    mapped: frozenset[str] = frozenset()
    patients: set[bytes] = field(default_factory=set)
    """``"Patient/<id>"`` as it stands in a reference."""
    origins: set[str] = field(default_factory=set)
    """Positions of raw records that are the patient's."""

    @property
    def raw_records(self) -> int:
        return sum(each.records for place, each in self.remains.items() if place[0].startswith("raw."))

    @property
    def nothing(self) -> bool:
        return not (self.live or self.state or self.remains or self.keys)

    def by_type(self) -> Counter[str]:
        """Resource type → keys with a live value."""
        return Counter(key.partition("/")[0] for _, key in self.live)

    def by_way(self) -> Counter[str]:
        return Counter(self.live.values())


class Finder:
    """Looks once for one patient: `look`."""

    def __init__(self, settings: Settings, scanner: Scanner, normalize: Normalizer, patient: Compartment) -> None:
        self._settings = settings
        self._scanner = scanner
        self._normalize = normalize
        self._patient = patient
        self._raw_read: set[TopicPartition] = set()
        self.found = Found({patient.raw_key: patient})
        for kind in ("patient", "user"):
            of = (patient.vendor, patient.tenant, "Patient", kind, patient.key)
            self.found.patients.add(_quoted(f"Patient/{normalize.naming.id(*of)}"))

    def look(self) -> Found:
        """Everything there is. Raises KafkaAccessError where Kafka does not answer."""
        found, places = self.found, self._raw_places()
        raws: dict[str, ConsumerRecord] = {}
        while places:  # a producer that is not ours may have put records elsewhere: their resources tell where
            raws |= self._read_raw(places)
            found.mapped = self._map(raws.values())
            found.keys |= found.mapped
            self._read_canonical()
            positions = filter(None, map(RecordPosition.parse, found.origins))
            places = {position.topic_partition for position in positions} - self._raw_read
        self._read_state()
        self._read_messages()
        return found

    # -- raw

    def _raw_places(self) -> set[TopicPartition]:
        topics = [raw_topic(self._patient.vendor)]
        if self._patient.vendor in ENRICHED:
            topics.append(enriched_topic(self._patient.vendor))
        keys = self.found.compartments
        numbers = {partition_for(key, self._settings.partitions) for key in keys}
        return {TopicPartition(topic, number) for topic in topics for number in numbers}

    def _read_raw(self, places: Iterable[TopicPartition]) -> dict[str, ConsumerRecord]:
        """The patient's raw records in these partitions; once more where an alias showed only on the way."""
        while True:
            aliases = dict(self.found.compartments)
            raws: dict[str, ConsumerRecord] = {}
            for place in places:
                self.found.remains.pop(place, None)
            for message in self._scanner.read(dict.fromkeys(places)):
                place = partition_of(message)
                record = from_confluent(message)
                envelope = self._own(record)
                if envelope is not None:
                    raws[str(record.position)] = record
                    self.found.remains.setdefault(place, Remains()).add(message)
                    for alias in aliases_of(envelope):
                        self.found.compartments.setdefault(alias.raw_key, alias)
            self._raw_read.update(places)
            if self.found.compartments == aliases:
                self.found.origins |= raws.keys()
                return raws
            places = {*places, *self._raw_places()}

    def _own(self, record: ConsumerRecord) -> Envelope | None:
        """The event, if it is the patient's. A record of ours says so by its key; another producer's is opened."""
        ours = header(record.headers, headers.EVENT_KEY) is not None
        if ours and (record.key or b"").decode("utf-8", "replace") not in self.found.compartments:
            return None
        try:
            envelope = envelope_of(record)
        except UnreadableBody:
            return None
        return envelope if raw_key(envelope) in self.found.compartments else None

    def _map(self, raws: Iterable[ConsumerRecord]) -> frozenset[str]:
        """The keys of what today's mapping makes of the records, in their partitions' order."""
        keys: set[str] = set()
        memories: dict[TopicPartition, InMemoryState] = {}
        for raw in sorted(raws, key=lambda each: (each.topic, each.partition, each.offset)):
            memory = memories.setdefault(raw.topic_partition, InMemoryState())
            followed = follow(raw, self._normalize, memory, self._settings.partitions)
            memory.apply(followed.state_updates)
            keys |= {each.key.decode() for each in followed.records if each.topic in CANONICAL}
        return frozenset(keys)

    # -- canonical

    def _partitions(self) -> set[int]:
        of = self.found.compartments.values()
        return {partition_for(each.partition_key, self._settings.partitions) for each in of}

    def _read_canonical(self) -> None:
        """Read until a whole pass finds nothing new: what is found tells by what more can be found."""
        places = dict.fromkeys(TopicPartition(topic, number) for topic in CANONICAL for number in self._partitions())
        while True:
            known = (len(self.found.keys), len(self.found.origins), len(self.found.patients))
            self.found.live.clear()
            self._take_canonical(places)
            if (len(self.found.keys), len(self.found.origins), len(self.found.patients)) == known:
                return

    def _take_canonical(self, places: Mapping[TopicPartition, None]) -> None:
        for message in self._scanner.read(places):
            place, key, value = partition_of(message), _text(message.key()), message.value()
            if value is None:
                self.found.live.pop((place, key), None)
            elif way := self._way(key, value, headers_of(message)):
                self.found.live[place, key] = way
                self.found.keys.add(key)

    def _way(self, key: str, value: bytes, sent: headers.Headers) -> str | None:
        """By which way a canonical record is seen to be the patient's; None where it is not."""
        found = self.found
        if header(sent, headers.VENDOR) != self._patient.vendor or header(sent, headers.TENANT) != self._patient.tenant:
            return None
        if header(sent, headers.EVENT_TYPE) == ERASURE:
            return None  # our own note of an erasure
        origin = header(sent, headers.RAW) or ""
        if key in found.mapped:
            way = "raw"
        elif origin in found.origins:
            way = "origin"
        elif key in found.keys or any(each in value for each in found.patients) or self._targets(key, value):
            way = "reference"
        else:
            return None
        found.origins.add(origin)
        if key.startswith("Patient/"):
            found.patients.add(_quoted(key))
        return way

    def _targets(self, key: str, value: bytes) -> bool:
        if not key.startswith("Provenance/"):
            return False
        targets = orjson.loads(value).get("target") or ()
        return any(each.get("reference") in self.found.keys for each in targets)

    # -- state, messages, dead letters

    def _read_state(self) -> None:
        vendor = self._patient.vendor
        topics = {raw_topic(vendor): state_topic(vendor)}
        if vendor in ENRICHED:
            topics[enriched_topic(vendor)] = state_topic(vendor, enriched=True)
        wanted = {TopicPartition(topics[topic], number) for topic, number in self._raw_read if topic in topics}
        for message in self._scanner.read(dict.fromkeys(wanted)):
            place, key = partition_of(message), message.key() or b""
            if orjson.loads(key)[0] not in self.found.compartments:
                continue
            if message.value() is None:
                self.found.state.discard((place, key))
            else:
                self.found.state.add((place, key))

    def _read_messages(self) -> None:
        """Bundles and outcomes by the event they are of; dead letters by their key, which is the raw record's."""
        letters = dead_letter_topic(self._patient.vendor)
        places = {TopicPartition(topic, number) for topic in MESSAGES for number in self._partitions()}
        places |= {TopicPartition(letters, number) for number in self._scanner.partitions(letters)}
        for message in self._scanner.read(dict.fromkeys(places)):
            sent = headers_of(message)
            own = header(sent, headers.RAW) in self.found.origins and header(sent, headers.EVENT_TYPE) != ERASURE
            if own or (message.topic() == letters and _text(message.key()) in self.found.compartments):
                self.found.remains.setdefault(partition_of(message), Remains()).add(message)


ERASURE = "erasure"
"""Header ``event-type`` of what an erasure itself writes."""


def aliases_of(envelope: Envelope) -> list[Compartment]:
    """Other keys under which events about the same patient may come, because they do not name the patient."""
    vendor, tenant, body = envelope.vendor, envelope.tenant, envelope.body
    if vendor == "infermedica" and (survey := SurveyFinished.model_validate(body).survey):
        return [Compartment.of(vendor, tenant, "survey", survey[1])]
    if vendor == "azodha" and (file := reader.text_at(body, "/fileId")):
        return [Compartment.of(vendor, tenant, "file", file)]
    return []


def _quoted(reference: str) -> bytes:
    return f'"{reference}"'.encode()


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
