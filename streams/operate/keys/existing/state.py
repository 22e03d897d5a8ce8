"""Encrypted state entries instead of plain ones, beside live workers.

Kafka has no compare-and-set, so entries are written as a replay writes them: read, then write, then read back.

1. Each plain entry is written under its encrypted key, unless a greater version is there.
2. A worker's record of that key between the reading and ours, of a greater version, is written again.
3. The plain key gets a tombstone with the header ``moved-to``, which readers of state do not take for a deletion
   (`step3_restore.state`): an ordinary one would remove the encrypted entry from every worker.
4. The partition is read again, until nothing is left to do. A plain entry that was written between 1 and 3, of another
   producer's event, is found before its tombstone.

An entry of a Practitioner belongs to no patient and stays plain. One that an earlier release wrote under a patient's
key is written under the key that it has today. A record of another form is no entry: no reader of state takes it, and
it stays as it is. It is named, since it may hold a patient's data in clear.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from fhirline.config.errors import KafkaAccessError
from fhirline.streams.kafka.encryption.data_key import DataKey, state_key
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.headers import MOVED_TO
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition
from fhirline.streams.operate.keys.existing.copying import Copier
from fhirline.streams.operate.keys.existing.survey import read
from fhirline.streams.operate.keys.existing.verify import batches
from fhirline.streams.step3_restore.state import decode, moved
from fhirline.streams.step3_restore.state_form import entry_key, is_entry
from fhirline.topics.declared import SHARED_TYPES, STATE_PREFIX

ROUNDS = 20


class NotSettled(KafkaAccessError):
    """Live workers kept changing the entries that were moved. All that was written is valid."""


_SHARED = tuple(f"{resource_type}/" for resource_type in SHARED_TYPES)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: its plain key and its value."""

    key: bytes
    value: bytes

    def newer(self, other: "Entry | None") -> bool:
        """Tell whether its version is greater, or there is no other."""
        return other is None or decode(self.value).version > decode(other.value).version


@dataclass(slots=True)
class StateOfPartition:
    """The records of a partition of a state topic."""

    topic_partition: TopicPartition
    copier: Copier
    plain: dict[bytes, bytes] = field(default_factory=dict)
    """Plain key of a patient's entry → value."""
    unknown: dict[bytes, int] = field(default_factory=dict)
    """Key as stored → offset, of a record in clear that no fhirline wrote. It stays as it is."""
    _behind: dict[bytes, bytes] = field(default_factory=dict)
    """Plain key → value that a tombstone with ``moved-to`` has covered. It may not be under its new key yet."""
    _there: dict[bytes, Entry] = field(default_factory=dict)
    """Key as stored, of an encrypted entry or a Practitioner's → entry."""
    _covered: dict[bytes, Entry] = field(default_factory=dict)
    """Key as stored → entry of a greater version than the last one."""
    _sent: dict[bytes, Entry] = field(default_factory=dict)
    """Key as stored → what was written last, until it has been read back."""
    _deleted: set[bytes] = field(default_factory=set)
    """Keys as stored that a worker has deleted since the reading, and before ours if they are in ``_again``."""
    _again: set[bytes] = field(default_factory=set)
    _dropped: set[bytes] = field(default_factory=set)
    """Plain keys of entries that were deleted meanwhile."""
    _position: int | None = None

    def read_on(self, scanner: LogScanner) -> None:
        """Read to the partition's end."""
        for batch in batches(read(scanner, {self.topic_partition: self._position})):
            self.copier.opener.read_on(batch)
            for record in batch:
                self._take(record)
                self._position = record.offset + 1

    def move(self, scanner: LogScanner) -> int:
        """Move all plain entries. Returns how many entries were written. Raises NotSettled."""
        written = 0
        for _ in range(ROUNDS):
            self.read_on(scanner)
            self.copier.ring.read_on([self.topic_partition.partition])
            entries = [*self._due(self.plain), *self._due(self._behind)]
            lost = [*self._covered.items()]
            self._behind.clear()
            if not (entries or lost or self._again):
                if not self.plain:
                    return written
                self.copier.write([self._tombstone(key) for key in self.plain])
                continue
            deleted = [
                ProducerRecord(self.topic_partition.topic, key, None, self.topic_partition.partition)
                for key in self._again
            ]
            self._dropped |= {self._sent[key].key for key in self._again}
            self._sent = dict(entries)
            self._deleted.clear()
            self._again.clear()
            self.copier.write([*deleted, *self._records([*lost, *entries])])
            written += len(entries)
        raise NotSettled(f"{self.topic_partition}: workers keep changing the same entries: run this again")

    def _take(self, record: ConsumerRecord) -> None:
        stored = record.key or b""
        if record.value is None or is_sealed(record) or (entry_key(stored) and is_entry(record.value)):
            self.unknown.pop(stored, None)
        else:
            self.unknown[stored] = record.offset
        if (plain := entry_key(stored)) is not None and plain[0]:
            self._take_plain(stored, record)
            return
        if record.value is None:
            self._there.pop(stored, None)
            self._covered.pop(stored, None)
            self._again.discard(stored)
            if stored in self._sent:
                self._deleted.add(stored)
            return
        if is_sealed(record):
            record = self.copier.opener.open(record)
        if entry_key(record.key or b"") is None or not is_entry(record.value or b""):
            # Of an erased patient, changed, or another producer's: it covers what has lain under its key.
            self._there.pop(stored, None)
            return
        entry, last = Entry(record.key or b"", record.value or b""), self._there.get(stored)
        if last is not None and last.newer(entry):
            if last.newer(self._covered.get(stored)):
                self._covered[stored] = last
        elif (covered := self._covered.get(stored)) is not None and not covered.newer(entry):
            del self._covered[stored]
        self._there[stored] = entry
        if stored in self._deleted and entry == self._sent.get(stored):
            self._again.add(stored)
        self._deleted.discard(stored)

    def _take_plain(self, key: bytes, record: ConsumerRecord) -> None:
        if record.value is not None:
            if is_entry(record.value):
                self.plain[key] = record.value
                self._dropped.discard(key)
            return
        value = self.plain.pop(key, None)
        if not moved(record.headers):
            self._behind.pop(key, None)
        elif value is not None and key not in self._dropped:
            self._behind[key] = value

    def _due(self, entries: dict[bytes, bytes]) -> Iterator[tuple[bytes, Entry]]:
        """Yield the entries that are not under their new keys, or in a smaller version, by these keys."""
        erased = self.copier.ring.partition(self.topic_partition.partition).erased
        for key, value in entries.items():
            if key in self._dropped or self._index(key) in erased:
                continue
            stored, entry = self._new_key(key), Entry(key, value)
            if entry.newer(self._there.get(stored)):
                yield stored, entry

    def _records(self, entries: Iterable[tuple[bytes, Entry]]) -> list[ProducerRecord]:
        """Make the records of entries. New data keys are durable before it returns."""
        new: list[ProducerRecord] = []
        known: dict[str, DataKey] = {}
        found = []
        for stored, entry in entries:
            key, number, data_key = entry.key, self.topic_partition.partition, None
            if stored.startswith(b"["):
                key = stored
            else:
                index = self._index(key)
                data_key = known.get(index) or self.copier.ring.living(number, index)
                if data_key is None:
                    data_key = DataKey.new(self.copier.secrets, index, number)
                    new.append(data_key.record(number))
                known[index] = data_key
            found.append(ProducerRecord(self.topic_partition.topic, key, entry.value, number, data_key=data_key))
        self.copier.write(new)
        return found

    def _tombstone(self, key: bytes) -> ProducerRecord:
        sent = [(MOVED_TO, self._new_key(key))]
        return ProducerRecord(self.topic_partition.topic, key, None, self.topic_partition.partition, sent)

    def _index(self, key: bytes) -> str:
        vendor = self.topic_partition.topic.removeprefix(STATE_PREFIX).partition(".")[0]
        return self.copier.secrets.index(f"{vendor}|{orjson.loads(key)[0]}")

    def _new_key(self, key: bytes) -> bytes:
        _, subject, name = orjson.loads(key)
        if subject.startswith(_SHARED):
            return orjson.dumps(["", subject, name])
        return state_key(self.copier.secrets, self._index(key), subject, name)
