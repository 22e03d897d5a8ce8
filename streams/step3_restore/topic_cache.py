"""A cache of a compacted topic, for the partitions of this process: restored before it is used (state.md §5).

A restore reads from where the cache ends to the partition's end, with a plain consumer outside the group, whenever the
group's generation has changed.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import DENIED, denial
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.headers import Headers
from fhirline.streams.kafka.records import headers_of

RESTORE_BATCH = 5_000
POLL_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""Longest time for which a working worker may not see another writer's entries (`StateCache.partitions_behind`)."""

LOOK_TIMEOUT = 5.0
"""Seconds to wait for the partitions' ends. Without an answer the state is read on, as if there were something new."""


class RestoreFailed(FhirlineError):
    """The topic could not be read to its end."""


class Held(Protocol):
    """The entries of one partition."""

    entries: int
    size: int
    position: int | None
    """Offset up to which everything has been read; None before the first restore."""

    def read(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Apply a record of the topic."""


H = TypeVar("H", bound=Held)


@dataclass
class TopicCache(Generic[H]):
    """The entries of a compacted topic's partitions, held in memory.

    ``generation`` counts this process's assignments. A partition is used only if it was restored in the current one.
    """

    settings: Settings
    topic: str
    generation: int = 0
    _partitions: dict[int, H] = field(default_factory=dict)
    _restored: dict[int, int] = field(default_factory=dict)
    _assigned: frozenset[int] = frozenset()
    _admin: AdminClient | None = None
    _asked_at: float = float("-inf")

    def new(self) -> H:
        """Make the empty cache of a partition."""
        raise NotImplementedError

    def assigned(self, partitions: Iterable[int]) -> None:
        """Begin a generation. Partitions that stay are read on before they are used, others are dropped."""
        self.generation += 1
        self._assigned = frozenset(partitions)
        for partition in self._partitions.keys() - self._assigned:
            del self._partitions[partition]
            self._restored.pop(partition, None)

    def ready(self, partition: int) -> H | None:
        """Return the partition's state if it has been restored in this generation."""
        return self._partitions.get(partition) if self._restored.get(partition) == self.generation else None

    def cached(self, partition: int) -> H | None:
        """Return the partition's state of any generation. It is another object where the partition was away between."""
        return self._partitions.get(partition)

    def unread(self) -> set[int]:
        """Return assigned partitions that have not been restored in this generation."""
        return {partition for partition in self._assigned if self.ready(partition) is None}

    def partition(self, partition: int) -> H:
        return self._partitions[partition]

    @property
    def look_due(self) -> bool:
        """Tell whether `partitions_behind` must be called again."""
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
            self._admin = None  # it may keep the leaders' epochs of before an outage, and be refused for minutes
        self._asked_at = began
        return found

    def restore(self, partitions: Iterable[int]) -> int:
        """Read partitions of the topic from the cache's position to their ends. Blocks.

        Returns the number of records read. Raises RestoreFailed.
        """
        generation, began = self.generation, time.monotonic()
        group = f"{self.settings.group}.state"  # librdkafka wants one; nothing is ever committed
        cached = self._partitions
        states = {item: cached[item] if item in cached else self.new() for item in partitions}
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
            consumer.assign(
                [TopicPartition(self.topic, partition, _start(state)) for partition, state in states.items()]
            )
            silent_since = time.monotonic()
            while unread:
                for message in _available(consumer):
                    silent_since = time.monotonic()
                    error, partition = message.error(), message.partition() or 0
                    if error is not None and error.code() in DENIED:  # the group's error names no partition
                        raise RestoreFailed(denial(self.settings, error, self.topic, group))
                    state, offset = states[partition], message.offset() or 0
                    if error is None:
                        self.take(state, message, began)
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

    def take(self, state: H, message: Message, began: float) -> None:
        """Apply a message of a restore that began at this moment (``time.monotonic``)."""
        state.read(message.key() or b"", message.value(), headers_of(message))

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Return the number of entries and the bytes of their values for each partition."""
        return {partition: (state.entries, state.size) for partition, state in [*self._partitions.items()]}


def _start(held: Held) -> int:
    """Return the offset at which a restore begins to read."""
    return OFFSET_BEGINNING if held.position is None else held.position


def _available(consumer: Consumer) -> list[Message]:
    """Return the next message and those that have arrived with it. `consume` alone would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(RESTORE_BATCH, 0)] if first is not None else []
