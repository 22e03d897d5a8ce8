"""Read topics as they are stored, outside any consumer group: partitions up to their end, or one record.

A partition ends where the broker reports its end (``enable.partition.eof``). An end offset asked for beforehand may be
too low (`kafka.embedded_quirks`). Sealed records stay sealed: `kafka.reader` opens them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Self

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message

from fhirline.config.errors import ConfigurationError, KafkaDenied, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import DENIED, denial
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.records import RecordPosition, TopicPartition, partition_of

BATCH = 5_000
PREFETCH_KILOBYTES = 65_536
"""Kilobytes that librdkafka reads ahead of the caller, in each partition. A slow caller needs fewer."""
POLL_SECONDS = 1.0
RETRY_SECONDS = 0.1
MOVING = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
"""Answers about a partition that changes its leader, or was made just now."""
SILENCE_SECONDS = 30.0
"""Silence of the broker after which reading fails."""

Progress = Callable[[str, int], None]
"""Called during a scan with a topic, and the number of its records read since the last call."""


class LogScanner:
    """A consumer without a group. Raises KafkaAccessError, and ConfigurationError where a topic is missing::

    with LogScanner(settings) as scanner:
        for message in scanner.read({TopicPartition("raw.mediquo", 3): None}):
            ...
    """

    def __init__(
        self, settings: Settings, progress: Progress | None = None, prefetch_kilobytes: int = PREFETCH_KILOBYTES
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._reads = 0
        self._group = f"{settings.group}.scan"  # librdkafka requires one; nothing is committed
        self._consumer = new_client(
            Consumer,
            librdkafka(
                settings,
                **{
                    "group.id": self._group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_uncommitted",  # as the worker reads
                    "fetch.wait.max.ms": 10,
                    "queued.max.messages.kbytes": prefetch_kilobytes,  # of each partition
                    "fetch.queue.backoff.ms": 10,  # else a second, whenever that is full
                    "log_level": 0,  # errors are raised
                },
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> range:
        """Return the partition numbers of a topic; empty where it does not exist."""
        try:
            found = self._consumer.list_topics(topic, timeout=SILENCE_SECONDS).topics[topic]
        except KafkaException as error:
            raise self._unanswered(error.args[0].str()) from None
        if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise self._denied(found.error, topic)  # else the topic would look missing, and nothing be found
        return range(len(found.partitions))

    def topic_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return the partitions of several topics. A topic that does not exist has none."""
        return [TopicPartition(topic, number) for topic in topics for number in self.partitions(topic)]

    def first(self, topic: str, partition: int) -> int:
        """Return the first offset of a partition that retention has left."""
        first, _ = self._offsets(TopicPartition(topic, partition))
        return first

    def end(self, topic: str, partition: int) -> int:
        """Return the end offset of a partition, exact on the embedded broker too, which reports it too low."""
        place = TopicPartition(topic, partition)
        end = self.reported_end(place)
        for message in self.stored({place: end}):
            end = (message.offset() or 0) + 1
        return end

    def end_before(self, position: RecordPosition) -> int | None:
        """Return the partition's end where the position is not before it; None where the log reaches further.

        Reading from beyond the end would wait for records: the embedded broker does not refuse it.
        """
        place = position.topic_partition
        if position.offset < self.reported_end(place):
            return None
        end = self.end(*place)
        return end if position.offset >= end else None

    def reported_end(self, place: TopicPartition) -> int:
        """Return the end offset of a partition as the broker reports it."""
        _, end = self._offsets(place)
        return end

    def _offsets(self, place: TopicPartition) -> tuple[int, int]:
        """Ask for the first and the end offset. While a partition changes its leader, they are asked for again."""
        until = time.monotonic() + SILENCE_SECONDS
        while True:
            try:
                return self._consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(*place), timeout=SILENCE_SECONDS
                )
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > until:
                    raise self._unanswered(error.args[0].str()) from None
                with suppress(KafkaException):  # the broker that was asked may have ended: the loop asks again
                    self._consumer.list_topics(place.topic, timeout=SILENCE_SECONDS)  # who leads it now
                time.sleep(RETRY_SECONDS)

    def stored(
        self,
        starts: Mapping[TopicPartition, int | None],
        ends: Mapping[TopicPartition, int] | None = None,
        whole: bool = False,
    ) -> Iterator[Message]:
        """Read every record of some partitions as it is stored, from an offset (None: the beginning) to the end.

        ``ends``: offsets at which to stop before the partition's end. ``whole``: the log is known to reach that far. A
        leader that reports an earlier end does not know the log yet, and is asked again.

        Yields messages, not converted: most callers choose by key or header, and a scan may read millions.
        """
        if not starts:
            return
        ends = ends or {}
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset)
                for partition, offset in starts.items()
            ]
        )
        unread = set(starts)
        silent_since = time.monotonic()
        self._reads += 1
        own = self._reads
        try:
            while unread:
                counted: dict[str, int] = {}
                arrived = self._available()
                for message in arrived:
                    partition = partition_of(message)
                    error = message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            if not whole or (message.offset() or 0) >= ends.get(partition, 0):
                                unread.discard(partition)
                        elif error.code() in _MISSING:
                            raise ConfigurationError(f"topic {partition.topic} is missing: run `fhirline topics apply`")
                        elif error.code() in DENIED:
                            raise self._denied(error, partition.topic)
                        elif not error.retriable():
                            raise self._unanswered(f"{partition}: {error.name()}")
                    elif partition in unread:
                        counted[partition.topic] = counted.get(partition.topic, 0) + 1
                        if (message.offset() or 0) < ends.get(partition, _NEVER):
                            yield message
                        else:
                            unread.discard(partition)
                if self._progress is not None:
                    for topic, count in counted.items():
                        self._progress(topic, count)
                if arrived:
                    silent_since = time.monotonic()  # after what the caller did with them, which may take long
                elif time.monotonic() - silent_since > SILENCE_SECONDS:
                    raise self._unanswered(f"silent for {SILENCE_SECONDS:g} s")
        finally:  # also where the caller reads no further
            if own == self._reads:
                self._unassign()

    def _unassign(self) -> None:
        """Unassign the partitions until the next read: librdkafka would go on fetching, a hundred times a second."""
        with suppress(RuntimeError):  # the consumer is closed
            self._consumer.unassign()

    def _available(self) -> list[Message]:
        first = self._consumer.poll(POLL_SECONDS)
        return [first, *self._consumer.consume(BATCH, 0)] if first is not None else []

    def _denied(self, error: KafkaError, topic: str) -> KafkaDenied:
        return KafkaDenied(f"FHIRLINE_BOOTSTRAP: {denial(self._settings, error, topic, self._group)}")

    def _unanswered(self, reason: str) -> KafkaRequestFailed:
        return KafkaRequestFailed(f"FHIRLINE_BOOTSTRAP: {self._settings.bootstrap} does not answer ({reason})")


_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_NEVER = 1 << 62
