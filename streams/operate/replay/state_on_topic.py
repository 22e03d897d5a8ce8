"""A partition of the state topic as it is while a replay publishes."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, from_confluent, partition_of
from fhirline.streams.operate.replay.remap import Job
from fhirline.streams.step3_restore.state import decode, moved
from fhirline.streams.step3_restore.state_form import entry_key, is_entry
from fhirline.streams.step3_restore.state_keys import data_key_of

Sent = dict[tuple[str, int, bytes], int]
"""(topic, partition, key as stored) → offset of the replay's own record."""


@dataclass(slots=True)
class StateOnTopic:
    """The last value of each key, and the offset up to which the partition was read. Keys are plain."""

    topic: str
    partition: int
    values: dict[bytes, bytes]
    position: int | None = None
    _plain: dict[bytes, bytes] = field(default_factory=dict)
    """Key as stored → plain key."""

    @classmethod
    def read(cls, settings: Settings, opener: Opener, jobs: Iterable[Job]) -> dict[str, "StateOnTopic"]:
        """Read the state of each job's raw partition. Returns it by source."""
        found = {
            job.offset_range.source: cls(job.offset_range.state_topic, job.offset_range.partition, {}) for job in jobs
        }
        by_partition = {TopicPartition(state.topic, state.partition): state for state in found.values()}
        with LogScanner(settings) as scanner:
            for message in scanner.stored(dict.fromkeys(by_partition)):
                by_partition[partition_of(message)]._apply(message, opener)
        return found

    def record(self, opener: Opener, key: bytes, value: bytes) -> ProducerRecord:
        """Make the record of an entry, sealed with a living data key of its patient where there is one."""
        data_key = data_key_of(opener, self.topic, self.partition, key)
        return ProducerRecord(self.topic, key, value, self.partition, data_key=data_key)

    def tombstones(self, keys: Collection[bytes]) -> list[ProducerRecord]:
        """Make tombstones of entries, each under every key that it is stored under: plain, or sealed."""
        wanted = set(keys)
        stored = [key for key, plain in self._plain.items() if plain in wanted]
        return [ProducerRecord(self.topic, key, None, self.partition) for key in stored]

    def covered(self, settings: Settings, opener: Opener, ours: Sent) -> list[ProducerRecord]:
        """Read on, and find entries of a greater version that our own records cover: compaction would lose them."""
        before: dict[bytes, bytes | None] = {}
        found = []
        for message, key, value in self._read_on(settings, opener):
            own = ours.get((self.topic, self.partition, bytes(message.key() or b"")))
            if own is None:
                continue
            if (message.offset() or 0) < own:
                before[key] = value
            elif (
                message.offset() == own
                and (live := before.get(key)) is not None
                and (value is None or decode(live).version > decode(value).version)
            ):
                found.append(self.record(opener, key, live))
        return found

    def _apply(self, message: Message, opener: Opener) -> tuple[bytes, bytes | None]:
        """Apply a message. Return its plain key and value."""
        self.position = (message.offset() or 0) + 1
        record = from_confluent(message)
        stored, key, value = record.key or b"", record.key or b"", record.value
        if is_sealed(record):
            opened = opener.open_now(record)
            if is_sealed(opened):  # of an erased patient, or changed
                return self._pass_over(stored)
            key, value = opened.key or b"", opened.value
        elif value is None:
            key = self._plain.get(stored, stored)
            if moved(record.headers):
                return key, self.values.get(key)
        elif entry_key(stored) is None or not is_entry(value):  # another producer's, or copied without its headers
            return self._pass_over(stored)
        self._plain[stored] = key
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        return key, value

    def _pass_over(self, stored: bytes) -> tuple[bytes, None]:
        """Pass a record over, as a restore does. An entry that it covers has no value here, and is written again."""
        key = self._plain.get(stored, stored)
        self.values.pop(key, None)
        return key, None

    def _read_on(self, settings: Settings, opener: Opener) -> Iterator[tuple[Message, bytes, bytes | None]]:
        with LogScanner(settings) as scanner:
            for message in scanner.stored({TopicPartition(self.topic, self.partition): self.position}):
                yield message, *self._apply(message, opener)
