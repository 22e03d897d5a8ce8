"""Finding everything of a patient on the topics: canonical keys, state entries, and records that will remain.

The worker keeps no list of a patient's resources. They are found in three ways, each of which finds what another
misses:

* **raw**: the patient's raw records, and what the present mapping makes of them;
* **origin**: canonical records whose header ``raw`` names one of those records, which finds what the present mapping no
  longer makes; or a raw record that another resource of the patient came from, which works after raw's retention;
* **reference**: canonical records that refer to ``Patient/<id>`` or to the patient's identifier, and each Provenance
  of a resource that was found.

Only the patient's own partitions are read: everything that follows from a patient's events has one partition number
(docs/contracts.md). Types that belong to no patient (Practitioner, Organization, Device, …) are left out.
"""

import time
from collections.abc import Iterable, Mapping

import orjson
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.registry import partition_key, raw_key
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.encryption.secrets import INDEX_DIGITS, encryption
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
    headers_of,
    partition_of,
)
from fhirline.streams.operate.erasure.aliases import aliases_of
from fhirline.streams.operate.erasure.found import Found, Remains
from fhirline.streams.operate.erasure.mapped import CANONICAL, canonical_keys
from fhirline.streams.step3_restore.erasure_list import ERASURE, Compartment
from fhirline.streams.step3_restore.state_form import entry_key
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import (
    BUNDLE,
    ENRICHED,
    OUTCOME,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
    state_topic,
)
from fhirline.topics.partition import partition_for

MESSAGES = (BUNDLE, OUTCOME)


class Finder:
    """Searches once for one patient."""

    def __init__(
        self,
        settings: Settings,
        scanner: Scanner,
        normalize: Normalizer,
        patient: Compartment,
        earlier: Found | None = None,
        marked: Iterable[tuple[int, str]] = (),
    ) -> None:
        """Make a search for one patient.

        ``earlier``: what an earlier search found, when the events could be read.
        ``marked``: partitions of ``normalizer.keys`` and indexes that an earlier erasure has marked as the patient's.
        """
        self._settings = settings
        self._scanner = scanner
        self._normalize = normalize
        self._patient = patient
        self._raw_read: set[TopicPartition] = set()
        self._events: set[tuple[int, str]] = set()
        """Partition number and event key of the patient's events."""
        self.found = Found({patient.raw_key: patient})
        self.found.sealed.update(marked)
        if earlier is not None:
            self.found.compartments |= earlier.compartments
            self.found.raw_keys |= earlier.raw_keys
            self.found.sealed |= earlier.sealed
        for kind in ("patient", "user"):
            id = normalize.naming.id(patient.vendor, patient.tenant, "Patient", kind, patient.key)
            self.found.patients.add(_quoted(f"Patient/{id}"))
            system = normalize.naming.sid(patient.vendor, patient.tenant, kind)
            self.found.patients.add(orjson.dumps({"system": system, "value": patient.key})[1:-1])

    def find(self) -> Found:
        """Find everything. Raises KafkaAccessError where Kafka does not answer."""
        found, partitions = self.found, self._raw_partitions()
        raws: dict[str, ConsumerRecord] = {}
        while partitions:  # another producer may have used other partitions, which its resources name
            raws |= self._read_raw(partitions)
            found.mapped = canonical_keys(raws.values(), self._normalize, self._settings.partitions)
            found.keys |= found.mapped
            self._read_canonical()
            positions = filter(None, map(RecordPosition.parse, found.origins))
            partitions = {position.topic_partition for position in positions} - self._raw_read
        self._read_messages()
        self._read_state()
        return found

    def _raw_partitions(self) -> set[TopicPartition]:
        topics = [raw_topic(self._patient.vendor)]
        if self._patient.vendor in ENRICHED:
            topics.append(enriched_topic(self._patient.vendor))
        numbers = {partition_for(key, self._settings.partitions) for key in self.found.compartments}
        numbers.update(number for number, _ in self.found.sealed)
        return {TopicPartition(topic, number) for topic in topics for number in numbers}

    def _read_raw(self, partitions: Iterable[TopicPartition]) -> dict[str, ConsumerRecord]:
        """Read the patient's raw records, and again where one of them shows another key of the patient."""
        while True:
            known = dict(self.found.compartments)
            raws: dict[str, ConsumerRecord] = {}
            for partition in partitions:
                self.found.remains.pop(partition, None)
                self.found.unreadable.pop(partition, None)
            unreadable, indexes = set[str](), self._indexes()
            for message, opened in self._scanner.both(dict.fromkeys(partitions)):
                record = from_confluent(opened or message)
                if opened is None:
                    if record.key in indexes:
                        unreadable.add(str(record.position))  # Bundles and outcomes name it
                        self.found.unreadable.setdefault(record.topic_partition, Remains()).add(message)
                    continue
                envelope = self._own(record)
                if envelope is not None:
                    raws[str(record.position)] = record
                    self._events.add(
                        (partition_for(partition_key(envelope), self._settings.partitions), envelope.event_key)
                    )
                    self._note_index(message, record.partition)
                    self.found.raw_keys.add(((record.key or b"").decode("utf-8", "replace"), record.partition))
                    self.found.remains.setdefault(record.topic_partition, Remains()).add(message)
                    for alias in aliases_of(envelope):
                        self.found.compartments.setdefault(alias.raw_key, alias)
            self._raw_read.update(partitions)
            if self.found.compartments == known:
                self.found.origins |= raws.keys() | unreadable
                copied = (header(raw.headers, headers.COPY_OF) for raw in raws.values())
                self.found.origins.update(filter(None, copied))  # of records that were removed after their copies
                return raws
            partitions = {*partitions, *self._raw_partitions()}

    def _indexes(self, of_keys: bool = False) -> set[bytes]:
        """Return the stored keys of the patient's encrypted events.

        ``of_keys``: only those that follow from a known key. After an erasure nobody can read the keys behind the
        others.
        """
        if (secrets := encryption(self._settings)) is None:
            return set()
        keys = (*self.found.compartments, *(key for key, _ in self.found.raw_keys))
        stored = set() if of_keys else {index.encode() for _, index in self.found.sealed}
        return stored | {secrets.index(f"{self._patient.vendor}|{key}").encode() for key in keys}

    def _note_index(self, stored: Message, partition: int) -> None:
        """Note under which index a record of the patient is encrypted, and where its data key is."""
        if is_sealed(from_confluent(stored)):
            self.found.sealed.add((partition, _text(stored.key())[:INDEX_DIGITS]))

    def _own(self, record: ConsumerRecord) -> Envelope | None:
        """Return the event if it is the patient's: by the key of a record of ours, else by its content.

        A key ``event/…`` says only that no patient was found when the record was written. Mapping version 1 did not
        read JSON in text, and later versions may find a patient there.
        """
        key = (record.key or b"").decode("utf-8", "replace")
        named = header(record.headers, headers.EVENT_KEY) is not None and "|event/" not in key
        if named and key not in self.found.compartments:
            return None
        try:
            envelope = envelope_of(record)
        except UnreadableBody:
            return None
        return envelope if raw_key(envelope) in self.found.compartments else None

    def _numbers(self) -> set[int]:
        """Return the partition numbers of the patient's canonical records."""
        compartments = self.found.compartments.values()
        return {partition_for(compartment.partition_key, self._settings.partitions) for compartment in compartments}

    def _read_canonical(self) -> None:
        """Read until a pass finds nothing new, since each record that is found may lead to others."""
        partitions = dict.fromkeys(TopicPartition(topic, number) for topic in CANONICAL for number in self._numbers())
        while True:
            known = (len(self.found.keys), len(self.found.origins), len(self.found.patients))
            self.found.live.clear()
            self._pass_over_canonical(partitions)
            if (len(self.found.keys), len(self.found.origins), len(self.found.patients)) == known:
                return

    def _pass_over_canonical(self, partitions: Mapping[TopicPartition, None]) -> None:
        for message in self._scanner.read(partitions):
            partition, key, value = partition_of(message), _text(message.key()), message.value()
            if value is None:
                self.found.live.pop((partition, key), None)
            elif way := self._way(key, value, headers_of(message)):
                self.found.live[partition, key] = way
                self.found.keys.add(key)
                if key.startswith("Provenance/") and (event := header(headers_of(message), headers.EVENT_KEY)):
                    self._events.add((partition.partition, event))

    def _way(self, key: str, value: bytes, sent: headers.Headers) -> str | None:
        """Decide in which way a canonical record is the patient's; None where it is not."""
        found = self.found
        if header(sent, headers.VENDOR) != self._patient.vendor or header(sent, headers.TENANT) != self._patient.tenant:
            return None
        if header(sent, headers.EVENT_TYPE) == ERASURE:
            return None  # the Provenance of an erasure
        origin = header(sent, headers.RAW) or ""
        if key in found.mapped:
            way = "raw"
        elif origin in found.origins:
            way = "origin"
        elif key in found.keys or any(patient in value for patient in found.patients) or self._targets(key, value):
            way = "reference"
        else:
            return None
        found.origins.add(origin)
        if key.startswith("Patient/"):
            found.patients.add(_quoted(key))
        return way

    def _targets(self, key: str, value: bytes) -> bool:
        """Tell whether the record is a Provenance of a resource that was found."""
        if not key.startswith("Provenance/"):
            return False
        targets = orjson.loads(value).get("target") or ()
        return any(target.get("reference") in self.found.keys for target in targets)

    def _read_state(self) -> None:
        vendor = self._patient.vendor
        topics = {raw_topic(vendor): state_topic(vendor)}
        if vendor in ENRICHED:
            topics[enriched_topic(vendor)] = state_topic(vendor, enriched=True)
        wanted = {TopicPartition(topics[topic], number) for topic, number in self._raw_read if topic in topics}
        indexes = self._indexes()
        for message in self._scanner.stored(dict.fromkeys(wanted)):
            partition, key = partition_of(message), message.key() or b""
            plain = entry_key(key)  # None for a sealed entry, and for another producer's record
            if not (key[:INDEX_DIGITS] in indexes if plain is None else plain[0] in self.found.compartments):
                continue
            if message.value() is None:
                self.found.state.discard((partition, key))
            else:
                self.found.state.add((partition, key))

    def _read_messages(self) -> None:
        """Read Bundles and outcomes, found by their event, and dead letters, found by their key too.

        Tables keep outcomes that the topic no longer has, so an event's outcome counts unless it has a null value.
        """
        self.found.outcomes.update(
            (TopicPartition(OUTCOME, number), self._outcome(key)) for number, key in self._events
        )
        letters = dead_letter_topic(self._patient.vendor)
        indexes, known = self._indexes(), self._indexes(of_keys=True)
        numbers = self._numbers() if indexes <= known else range(self._settings.partitions)
        partitions = {TopicPartition(topic, number) for topic in MESSAGES for number in numbers}
        partitions |= {*self._scanner.topic_partitions([letters])}
        began = time.monotonic()
        for stored in self._scanner.stored(dict.fromkeys(partitions)):
            sent, key = headers_of(stored), stored.key() or b""
            if stored.topic() == OUTCOME and stored.value() is None:  # an earlier erasure's; letters may have no value
                self.found.outcomes.discard((partition_of(stored), _text(key)))
                continue
            own = header(sent, headers.RAW) in self.found.origins and header(sent, headers.EVENT_TYPE) != ERASURE
            mine = stored.topic() == letters and (key in indexes or _text(key) in self.found.compartments)
            if not own and not mine:
                continue  # not opened: this process holds the data keys of the patient's partitions only
            if self._scanner.opened(stored, began) is None:
                self.found.unreadable.setdefault(partition_of(stored), Remains()).add(stored)
                continue
            self.found.remains.setdefault(partition_of(stored), Remains()).add(stored)
            if key and stored.topic() == OUTCOME:
                self.found.outcomes.add((partition_of(stored), _text(key)))
            if raw := RecordPosition.parse(header(sent, headers.RAW)):
                self._note_index(stored, raw.partition)

    def _outcome(self, event_key: str) -> str:
        """Return the key of an event's OperationOutcome (mapping.md §4.1)."""
        vendor, tenant = self._patient.vendor, self._patient.tenant
        return f"OperationOutcome/{self._normalize.naming.id(vendor, tenant, 'OperationOutcome', 'outcome', event_key)}"


def _quoted(reference: str) -> bytes:
    return f'"{reference}"'.encode()


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
