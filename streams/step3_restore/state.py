"""State between events: a cache of ``normalizer.state.<vendor>`` for each raw partition of this process (state.md).

* A record of the state topic is one state entry. Its partition is the raw record's, set explicitly.
* Nothing is mapped before its partition's state has been restored. A restore reads from where the cache ends to the
  partition's end, with a plain consumer outside the group, whenever the group's generation has changed.
* The cache may be ahead of what is durable, never behind. A batch's updates are merged into it while the batch is
  mapped, and go out in the batch's barrier. Where the barrier fails, the process ends, and the cache with it.
* The greatest version wins, in any order and any number of times, so that a record read again changes nothing.
* A partition's worker is not the only writer of its state: a replay that publishes writes entries too. So a worker asks
  once a second where its state partitions end, and reads on where that is beyond what it has written itself.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from confluent_kafka import Message

from fhirline.config.errors import FhirlineError
from fhirline.mappers.pipeline.normalize import StateUpdate
from fhirline.mappers.results import Entry, Version
from fhirline.streams.kafka.encryption.data_key import DataKey, state_key
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets
from fhirline.streams.kafka.headers import MOVED_TO, Headers, header
from fhirline.streams.kafka.records import ProducerRecord, RecordPosition, from_confluent, headers_of, position_of
from fhirline.streams.step3_restore.state_form import entry_key, is_entry
from fhirline.streams.step3_restore.topic_cache import TopicCache
from fhirline.topics.declared import SHARED_TYPES, STATE_PREFIX

log = structlog.get_logger("worker")

_NONE: Headers = []
"""Records of state have no headers, but for ``key-id`` of sealed ones and ``moved-to`` of some tombstones."""

_SHARED = tuple(f"{resource_type}/" for resource_type in SHARED_TYPES)

FRAMING = 1_024
"""Bytes that a record may take in addition to key and value. Kafka's format 2 needs less than a hundred."""


class StateEntryTooLarge(FhirlineError):
    """A state entry is larger than a record may be, so that an event's updates cannot be stored whole."""


class PartitionState:
    """The state entries of all subjects of one raw partition. Values are kept as small bytes and decoded on request."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, bytes]] = {}
        self._sealed: dict[bytes, tuple[str, str]] = {}
        """Key of a sealed entry's record, without the index → subject and name. Only while tombstones are read."""
        self.in_clear: dict[tuple[str, str], bytes] = {}
        """Subject and name → key of a patient's record in clear that has a value. Only where records are sealed."""
        self.entries = 0
        self.size = 0
        """Bytes of the entries' values."""
        self.position: int | None = None
        """Offset in the state topic up to which everything has been read; None before the first restore."""

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        """Return the subject's entries by name."""
        entries = self._subjects.get(subject)
        return {name: decode(value) for name, value in entries.items()} if entries else {}

    def apply(self, updates: Iterable[StateUpdate]) -> None:
        """Merge updates; each entry keeps its greatest version."""
        for update in updates:
            self._take(update.subject, update.name, None if update.deleted else encode(update.entry))

    def record_updates(
        self,
        topic: str,
        partition: int,
        raw_key: str,
        updates: Sequence[StateUpdate],
        largest: int = sys.maxsize,
        data_key: DataKey | None = None,
    ) -> list[ProducerRecord]:
        """Merge an event's updates, and return the records that make them durable. Each value is encoded once for both.

        ``data_key``: the event's, with which the records are sealed.

        Raises StateEntryTooLarge where a record would exceed ``largest`` bytes, and then merges nothing: no fold may
        hold what is not durable. An entry repeats an id in key and value, so its record can be too large although the
        raw record was not.
        """
        records = [state_record(topic, partition, raw_key, update, data_key) for update in updates]
        if any(len(record.key) + len(record.value or b"") + FRAMING > largest for record in records):
            raise StateEntryTooLarge
        for update, record in zip(updates, records, strict=True):
            self._take(update.subject, update.name, record.value)
        return records

    def read(self, key: bytes, value: bytes | None, headers: Headers = _NONE) -> None:
        """Merge a record of the state topic. A tombstone removes its entry (erasure, or too many entries).

        A Practitioner's entries lay under patients' keys in earlier releases. Their tombstones remove nothing, since
        events of other patients have the same entry. A tombstone with the header ``moved-to`` removes nothing either:
        the entry is encrypted now, under another key.
        """
        owner, subject, name = orjson.loads(key)
        if value is None and (moved(headers) or (owner and subject.startswith(_SHARED))):
            return
        self._take(subject, name, value if value is None else bytes(value))

    def remove_sealed(self, key: bytes, secrets: EncryptionSecrets) -> None:
        """Apply the tombstone of a sealed entry. Its key has keyed hashes, and there is no value to open."""
        if not self._sealed:
            for subject, entries in self._subjects.items():
                for name in entries:
                    self._sealed[secrets.state_name(subject, name).encode()] = subject, name
        if found := self._sealed.pop(key.rpartition(b"/")[2], None):
            self._take(*found, None)

    def read_sealed(self, key: bytes, value: bytes, secrets: EncryptionSecrets) -> None:
        """Merge a sealed entry that was opened."""
        self.read(key, value)
        if self._sealed:
            _, subject, name = orjson.loads(key)
            self._sealed[secrets.state_name(subject, name).encode()] = subject, name

    def end_reading(self) -> None:
        """Free the memory that only reading needs."""
        self._sealed = {}

    def _take(self, subject: str, name: str, value: bytes | None) -> None:
        """Merge an entry; None removes it."""
        if value is None:
            entries = self._subjects.get(subject, {})
            if (known := entries.pop(name, None)) is not None:
                self.entries -= 1
                self.size -= len(known)
            if not entries:
                self._subjects.pop(subject, None)
        else:
            self._merge(subject, name, value)

    def delivered(self, offset: int) -> None:
        """Advance over a record of our own that was acknowledged, if it lies at the position.

        A gap before it holds another writer's records, which the next restore must read.
        """
        if self.position == offset:
            self.position = offset + 1

    def _merge(self, subject: str, name: str, value: bytes) -> None:
        entries = self._subjects.setdefault(subject, {})
        known = entries.get(name)
        if known is None or known == value or not _version(orjson.loads(known)) > _version(orjson.loads(value)):
            entries[name] = value
            self.entries += known is None
            self.size += len(value) - (len(known) if known else 0)

    def __len__(self) -> int:
        return self.entries


def encode(entry: Entry) -> bytes:
    """Encode an entry's value for the state topic: ``{"s": [seconds, fraction, event key, text], "v": value}``."""
    # bytes(): orjson keeps over-allocated buffers, ten times the memory for small values (state.md §8).
    return bytes(bytearray(orjson.dumps(entry.stored())))


def decode(value: bytes) -> Entry:
    """Reverse `encode`."""
    return Entry.of(orjson.loads(value))


def moved(headers: Headers) -> bool:
    """Tell whether a tombstone says that its entry lies under another key now (`operate.keys.existing`)."""
    return header(headers, MOVED_TO) is not None


def _version(fields: Mapping[str, Any]) -> Version:
    seconds, fraction, event_key, at = fields["s"]
    return Version((seconds, fraction), event_key, at)


def state_record(
    topic: str, partition: int, raw_key: str, update: StateUpdate, data_key: DataKey | None = None
) -> ProducerRecord:
    """Return an update's record. Its key begins with the raw record's key, by which a patient's entries are found.

    A Practitioner belongs to no patient: the key begins with an empty text, so that no erasure removes what the events
    of others have sent as well, and the record is not sealed with a patient's key.
    """
    owner = "" if update.subject.startswith(_SHARED) else raw_key
    key = orjson.dumps([owner, update.subject, update.name])
    value = None if update.deleted else encode(update.entry)
    return ProducerRecord(topic, key, value, partition, data_key=data_key if owner else None)


@dataclass
class StateCache(TopicCache[PartitionState]):
    """The states of one raw topic's partitions. ``opener`` opens sealed entries."""

    opener: Opener = field(kw_only=True)

    def new(self) -> PartitionState:
        return PartitionState()

    def restore(self, partitions: Iterable[int]) -> int:
        """Restore as a `TopicCache` does. Also raises DataKeyMissing and EncryptionNotSet."""
        restored = [*partitions]
        read = super().restore(restored)
        for partition in restored:
            self.partition(partition).end_reading()
        return read

    def record_updates(
        self,
        state: PartitionState,
        partition: int,
        raw_key: str,
        updates: Sequence[StateUpdate],
        largest: int = sys.maxsize,
        data_key: DataKey | None = None,
    ) -> list[ProducerRecord]:
        """Merge an event's updates, and return their records (`PartitionState.record_updates`).

        A deleted entry may lie under two keys: in clear from before encryption was on, or of another producer's event,
        and sealed. Each gets a tombstone: otherwise the other one would come back, once compaction has removed the
        tombstone.
        """
        secrets = self.opener.secrets
        records = state.record_updates(self.topic, partition, raw_key, updates, largest, data_key)
        if secrets is None:
            return records
        vendor = self.topic.removeprefix(STATE_PREFIX).partition(".")[0]
        others: list[bytes] = []
        for update, record in zip(updates, records, strict=True):
            if update.subject.startswith(_SHARED):
                continue
            if record.data_key is None:
                _note(state.in_clear, (raw_key, update.subject, update.name), record.key, record.value)
                if update.deleted:
                    index = secrets.index(f"{vendor}|{raw_key}")
                    others.append(state_key(secrets, index, update.subject, update.name))
            elif update.deleted and (key := state.in_clear.pop((update.subject, update.name), None)):
                others.append(key)
        return [*records, *(ProducerRecord(self.topic, key, None, partition) for key in others)]

    def take(self, state: PartitionState, message: Message, began: float) -> None:
        """Merge a message. One that is no entry, or cannot be opened although no key is lost, is logged and ignored."""
        key, value = bytes(message.key() or b""), message.value()
        if key.startswith(b"["):  # not sealed
            if (entry := entry_key(key)) is None or not (value is None or is_entry(value)):
                return _passed_over(position_of(message), "it is not of fhirline's form: another producer wrote it")
            if self.opener.secrets is not None:
                _note(state.in_clear, entry, key, value)
            return state.read(key, value, headers_of(message))
        record = from_confluent(message)
        if value is None:
            if (secrets := self.opener.secrets) is not None:
                return state.remove_sealed(key, secrets)
            return self.opener.require_secrets(record)
        opened = self.opener.open_now(record, began)
        if opened.data_key is not None:
            return state.read_sealed(opened.key or b"", opened.value or b"", opened.data_key.secrets)
        if not opened.key_destroyed:  # of an erased patient: nothing is lost
            _passed_over(record.position, "it was changed" if is_sealed(record) else "it has no header key-id")
        return None


def _passed_over(position: RecordPosition, why: str) -> None:
    log.error("state entry passed over: it cannot be opened", position=str(position), why=why)


def _note(in_clear: dict[tuple[str, str], bytes], entry: tuple[str, str, str], key: bytes, value: bytes | None) -> None:
    """Record whether a patient's record in clear has a value."""
    owner, subject, name = entry
    if value is None:
        in_clear.pop((subject, name), None)
    elif owner:
        in_clear[subject, name] = key
