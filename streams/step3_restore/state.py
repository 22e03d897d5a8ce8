"""State between events: a cache per raw partition of what is in ``normalizer.state.<vendor>`` (state.md).

* A record of the state topic is one register or statement; its partition is the raw record's, set explicitly.
* Nothing is mapped before its partition's state is there: restore reads from where the cache ends to the partition's
  end, with a plain consumer and no group, whenever the group's generation has changed.
* The cache may be ahead of what is durable, never behind: it is merged into while a batch is mapped, and its records go
  out in that batch's barrier. If the barrier fails the process ends, and the cache with it.
* Merging is by greatest version, in any order, any number of times: reading a record again changes nothing.
* A partition's worker is not its state's only writer: a replay that publishes writes what events say anew. So a worker
  asks once a second where its state's partitions end, and reads on where that is beyond what it has written itself.
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
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.records import ProducerRecord

RESTORE_BATCH = 5_000
POLL_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""How long another writer's registers may stay unseen by a worker that is at work (`StateCache.behind`)."""


LOOK_TIMEOUT = 5.0
"""Seconds for that question's answer; without one, the state is read on, as if there were something."""


FRAMING = 1_024
"""Bytes that a record may take on its way besides key and value: less than a hundred by Kafka's protocol (record and
batch of format 2), and a round number above."""


class RestoreFailed(FhirlineError):
    """The state topic could not be read to its end."""


class RegisterTooLarge(FhirlineError):
    """A register is larger than a record may be: what an event says could not be remembered whole."""


class PartitionState:
    """The registers of all subjects of one raw partition. Values are kept as small bytes and decoded when asked for."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, bytes]] = {}
        self.registers = 0
        self.size = 0
        """Bytes of the registers' values."""
        self.position: int | None = None
        """Offset in the state topic up to which everything has been read; None before the first restore."""

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        registers = self._subjects.get(subject)
        return {name: decode(value) for name, value in registers.items()} if registers else {}

    def remember(self, statements: Iterable[StateUpdate]) -> None:
        for each in statements:
            self._merge(each.subject, each.name, encode(each.entry))

    def told(
        self, topic: str, partition: int, raw_key: str, statements: Sequence[StateUpdate], largest: int = sys.maxsize
    ) -> list[ProducerRecord]:
        """Remember what an event says, and give the records that say it: each value is encoded once for both.

        Raises RegisterTooLarge where one of them is larger than ``largest`` bytes. A register repeats an id in its key
        and in its value, so one may be although its raw record is not. Then nothing is remembered: no event's fold may
        hold what is not durable.
        """
        records = [state_record(topic, partition, raw_key, each) for each in statements]
        if any(len(each.key) + len(each.value or b"") + FRAMING > largest for each in records):
            raise RegisterTooLarge
        for each, record in zip(statements, records, strict=True):
            self._merge(each.subject, each.name, record.value or b"")
        return records

    def read(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the state topic; a null value forgets the register (erasure)."""
        _, subject, register = orjson.loads(key)
        if value is None:
            registers = self._subjects.get(subject, {})
            if (known := registers.pop(register, None)) is not None:
                self.registers -= 1
                self.size -= len(known)
            if not registers:
                self._subjects.pop(subject, None)
        else:
            self._merge(subject, register, bytes(value))

    @property
    def start(self) -> int:
        """Where reading on begins."""
        return OFFSET_BEGINNING if self.position is None else self.position

    def delivered(self, offset: int) -> None:
        """A record of our own was acknowledged. The position moves only while offsets are contiguous: "last own offset
        + 1" would hide another writer's records."""
        if self.position == offset:
            self.position = offset + 1

    def _merge(self, subject: str, register: str, value: bytes) -> None:
        registers = self._subjects.setdefault(subject, {})
        known = registers.get(register)
        if known is None or known == value or not _stamp(orjson.loads(known)) > _stamp(orjson.loads(value)):
            registers[register] = value
            self.registers += known is None
            self.size += len(value) - (len(known) if known else 0)

    def __len__(self) -> int:
        return self.registers


def encode(entry: Entry) -> bytes:
    """A register's value in the state topic: ``{"s": [seconds, fraction, event key, text], "v": value}``."""
    version = entry.version
    # bytes(): orjson keeps over-allocated buffers, ten times the memory for small values (state.md §8).
    return bytes(bytearray(orjson.dumps({"s": [*version.order, version.event_key, version.at], "v": entry.value})))


def decode(value: bytes) -> Entry:
    held = orjson.loads(value)
    return Entry(_stamp(held), held["v"])


def _stamp(held: Mapping[str, Any]) -> Version:
    seconds, fraction, event_key, at = held["s"]
    return Version((seconds, fraction), event_key, at)


def state_record(topic: str, partition: int, raw_key: str, statement: StateUpdate) -> ProducerRecord:
    """The record of a statement. Its key begins with the raw record's, so that a patient's registers can be found."""
    key = orjson.dumps([raw_key, statement.subject, statement.name])
    return ProducerRecord(topic, key, encode(statement.entry), partition)


@dataclass
class StateCache:
    """The partitions' states of one raw topic. ``generation`` is the group's, as far as this process knows."""

    settings: Settings
    topic: str
    generation: int = 0
    _partitions: dict[int, PartitionState] = field(default_factory=dict)
    _restored: dict[int, int] = field(default_factory=dict)
    _assigned: frozenset[int] = frozenset()
    _admin: AdminClient | None = None
    _looked: float = float("-inf")

    def assigned(self, partitions: Iterable[int]) -> None:
        """A new generation: what stays is read on from its position before it is used, what went away is dropped."""
        self.generation += 1
        self._assigned = frozenset(partitions)
        for partition in self._partitions.keys() - self._assigned:
            del self._partitions[partition]
            self._restored.pop(partition, None)

    def ready(self, partition: int) -> PartitionState | None:
        """The partition's state if it has been restored in this generation."""
        return self._partitions.get(partition) if self._restored.get(partition) == self.generation else None

    def held(self, partition: int) -> PartitionState | None:
        """The partition's state, of whatever generation; another one, or none, where it has been away in between."""
        return self._partitions.get(partition)

    def unread(self) -> set[int]:
        """Assigned partitions that have not been restored in this generation."""
        return {each for each in self._assigned if self.ready(each) is None}

    def partition(self, partition: int) -> PartitionState:
        return self._partitions[partition]

    @property
    def look_due(self) -> bool:
        """Whether `behind` was last asked so long ago that it must be asked again."""
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def behind(self) -> set[int]:
        """Restored partitions that hold more than has been read: another writer's records. Blocking, for a thread.

        One request for all. Our own records move the position, so that usually there is nothing to read; where the
        broker's answer is too low (faust.md §6), it still is beyond the position if a batch begins behind that.
        """
        began = time.monotonic()
        restored = [each for each in [*self._partitions] if self.ready(each) is not None]
        known = {each: self._partitions[each].position or 0 for each in restored}
        if self._admin is None:
            self._admin = AdminClient(librdkafka(self.settings))
        end = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no types
        asked = {TopicPartition(self.topic, each): end for each in known}
        try:
            answers = self._admin.list_offsets(asked, request_timeout=LOOK_TIMEOUT) if asked else {}
            found = {at.partition for at, answer in answers.items() if answer.result().offset > known[at.partition]}
        except KafkaException:
            found = {*known}  # restore waits for the broker, or gives it up
        self._looked = began
        return found

    def restore(self, partitions: Iterable[int]) -> int:
        """Read partitions of the state topic from the cache's position to their ends; blocking, for a thread.

        Returns the number of records read. Raises RestoreFailed.
        """
        generation = self.generation
        group = f"{self.settings.group}.state"  # librdkafka wants one; nothing is ever committed
        known = self._partitions
        states = {each: known[each] if each in known else PartitionState() for each in partitions}
        unread = set(states)
        read = 0
        consumer = Consumer(
            librdkafka(
                self.settings,
                **{
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 10,
                },
            )
        )
        try:
            consumer.assign([TopicPartition(self.topic, each, state.start) for each, state in states.items()])
            silent_since = time.monotonic()
            while unread:
                for message in _available(consumer):
                    silent_since = time.monotonic()
                    error, partition = message.error(), message.partition() or 0
                    if error is not None and error.code() in DENIED:  # of the group: names no partition
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
        """State entries and the bytes of their values per partition, for metrics."""
        return {partition: (state.registers, state.size) for partition, state in [*self._partitions.items()]}


def _available(consumer: Consumer) -> list[Message]:
    """The next message, and whatever has arrived with it: `consume` alone would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(RESTORE_BATCH, 0)] if first is not None else []
