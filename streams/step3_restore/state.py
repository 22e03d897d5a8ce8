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
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import StateUpdate
from fhirline.mappers.results import Entry, Version
from fhirline.streams.kafka.acl_check import DENIED, denial
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.records import ProducerRecord

RESTORE_BATCH = 5_000
POLL_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""How long a working worker may not see another writer's entries (`StateCache.partitions_behind`)."""

LOOK_TIMEOUT = 5.0
"""Seconds to wait for the partitions' ends. Without an answer the state is read on, as if there were something new."""

FRAMING = 1_024
"""Bytes that a record may take besides key and value. Kafka's format 2 needs less than a hundred."""


class RestoreFailed(FhirlineError):
    """The state topic could not be read to its end."""


class StateEntryTooLarge(FhirlineError):
    """A state entry is larger than a record may be, so that an event's updates cannot be stored whole."""


class PartitionState:
    """The state entries of all subjects of one raw partition. Values are kept as small bytes and decoded on request."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, bytes]] = {}
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
        self, topic: str, partition: int, raw_key: str, updates: Sequence[StateUpdate], largest: int = sys.maxsize
    ) -> list[ProducerRecord]:
        """Merge an event's updates, and return the records that make them durable. Each value is encoded once for both.

        Raises StateEntryTooLarge where a record would exceed ``largest`` bytes, and then merges nothing: no fold may
        hold what is not durable. An entry repeats an id in key and value, so its record can be too large although the
        raw record was not.
        """
        records = [state_record(topic, partition, raw_key, update) for update in updates]
        if any(len(record.key) + len(record.value or b"") + FRAMING > largest for record in records):
            raise StateEntryTooLarge
        for update, record in zip(updates, records, strict=True):
            self._take(update.subject, update.name, record.value)
        return records

    def read(self, key: bytes, value: bytes | None) -> None:
        """Merge a record of the state topic. A tombstone removes its entry (erasure, or too many entries)."""
        _, subject, name = orjson.loads(key)
        self._take(subject, name, value if value is None else bytes(value))

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

    @property
    def start(self) -> int:
        """The offset at which a restore begins to read."""
        return OFFSET_BEGINNING if self.position is None else self.position

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
    version = entry.version
    # bytes(): orjson keeps over-allocated buffers, ten times the memory for small values (state.md §8).
    return bytes(bytearray(orjson.dumps({"s": [*version.order, version.event_key, version.at], "v": entry.value})))


def decode(value: bytes) -> Entry:
    """Reverse `encode`."""
    fields = orjson.loads(value)
    return Entry(_version(fields), fields["v"])


def _version(fields: Mapping[str, Any]) -> Version:
    seconds, fraction, event_key, at = fields["s"]
    return Version((seconds, fraction), event_key, at)


def state_record(topic: str, partition: int, raw_key: str, update: StateUpdate) -> ProducerRecord:
    """Return an update's record. Its key begins with the raw record's key, by which a patient's entries are found."""
    key = orjson.dumps([raw_key, update.subject, update.name])
    return ProducerRecord(topic, key, None if update.deleted else encode(update.entry), partition)


@dataclass
class StateCache:
    """The states of one raw topic's partitions.

    ``generation`` counts this process's assignments. A state is used only if it was restored in the current one.
    """

    settings: Settings
    topic: str
    generation: int = 0
    _partitions: dict[int, PartitionState] = field(default_factory=dict)
    _restored: dict[int, int] = field(default_factory=dict)
    _assigned: frozenset[int] = frozenset()
    _admin: AdminClient | None = None
    _asked_at: float = float("-inf")

    def assigned(self, partitions: Iterable[int]) -> None:
        """Begin a generation. Partitions that stay are read on before they are used, others are dropped."""
        self.generation += 1
        self._assigned = frozenset(partitions)
        for partition in self._partitions.keys() - self._assigned:
            del self._partitions[partition]
            self._restored.pop(partition, None)

    def ready(self, partition: int) -> PartitionState | None:
        """Return the partition's state if it has been restored in this generation."""
        return self._partitions.get(partition) if self._restored.get(partition) == self.generation else None

    def cached(self, partition: int) -> PartitionState | None:
        """Return the partition's state of any generation. It is another object where the partition was away between."""
        return self._partitions.get(partition)

    def unread(self) -> set[int]:
        """Return assigned partitions that have not been restored in this generation."""
        return {partition for partition in self._assigned if self.ready(partition) is None}

    def partition(self, partition: int) -> PartitionState:
        return self._partitions[partition]

    @property
    def look_due(self) -> bool:
        """Whether `partitions_behind` must be asked again."""
        return time.monotonic() - self._asked_at >= LOOK_SECONDS

    def partitions_behind(self) -> set[int]:
        """Return restored partitions that hold more than has been read: another writer's records. Blocks.

        One request asks for all ends. Our own records move the position, so that usually there is nothing to read. The
        embedded broker's answer is too low (faust.md §6), but still beyond the position if a batch begins behind that.
        """
        began = time.monotonic()
        restored = [partition for partition in [*self._partitions] if self.ready(partition) is not None]
        positions = {partition: self._partitions[partition].position or 0 for partition in restored}
        if self._admin is None:
            self._admin = new_client(AdminClient, librdkafka(self.settings, **{"log_level": 0}))  # errors are raised
        end = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no types
        asked = {TopicPartition(self.topic, partition): end for partition in positions}
        try:
            answers = self._admin.list_offsets(asked, request_timeout=LOOK_TIMEOUT) if asked else {}
            found = {at.partition for at, answer in answers.items() if answer.result().offset > positions[at.partition]}
        except KafkaException:
            found = {*positions}  # the restore then waits for the broker, or gives up
        self._asked_at = began
        return found

    def restore(self, partitions: Iterable[int]) -> int:
        """Read partitions of the state topic from the cache's position to their ends. Blocks.

        Returns the number of records read. Raises RestoreFailed.
        """
        generation = self.generation
        group = f"{self.settings.group}.state"  # librdkafka wants one; nothing is ever committed
        cached = self._partitions
        states = {each: cached[each] if each in cached else PartitionState() for each in partitions}
        unread = set(states)
        read = 0
        consumer = new_client(
            Consumer,
            librdkafka(
                self.settings,
                **{
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 10,
                },
            ),
        )
        try:
            consumer.assign([TopicPartition(self.topic, partition, state.start) for partition, state in states.items()])
            silent_since = time.monotonic()
            while unread:
                for message in _available(consumer):
                    silent_since = time.monotonic()
                    error, partition = message.error(), message.partition() or 0
                    if error is not None and error.code() in DENIED:  # the group's error names no partition
                        raise RestoreFailed(denial(self.settings, error, self.topic, group))
                    state, offset = states[partition], message.offset() or 0
                    if error is None:
                        state.read(message.key() or b"", message.value())
                        state.position = offset + 1
                        read += 1
                    elif error.code() == KafkaError._PARTITION_EOF:
                        state.position = max(offset, state.position or 0)
                        unread.discard(partition)
                    elif not error.retriable():
                        raise RestoreFailed(f"{self.topic}/{partition}: {error.name()}")
                if time.monotonic() - silent_since > self.settings.session_timeout:
                    raise RestoreFailed(f"{self.topic}: no answer for {self.settings.session_timeout:g} s")
        finally:
            consumer.close()
        for partition, state in states.items():
            self._partitions[partition] = state
            self._restored[partition] = generation
        return read

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Return the number of entries and the bytes of their values for each partition."""
        return {partition: (state.entries, state.size) for partition, state in [*self._partitions.items()]}


def _available(consumer: Consumer) -> list[Message]:
    """Return the next message and those that have arrived with it. `consume` alone would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(RESTORE_BATCH, 0)] if first is not None else []
