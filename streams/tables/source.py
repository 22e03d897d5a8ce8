"""Reading on from positions: all partitions, or those that a consumer group gives to this process.

The group only spreads the partitions. Nothing is committed to it, and a partition is always read from the position that
the database has. A process that the group has given up on is stopped by the positions (docs/design/tables.md §11).
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping

import confluent_kafka
import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message

from fhirline.config.errors import ConfigurationError, FhirlineError, KafkaDenied, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.acl_check import DENIED, denial
from fhirline.streams.kafka.clients import librdkafka, log_error, new_client
from fhirline.streams.kafka.records import ConsumerRecord, Lag, TopicPartition, from_confluent, partition_of
from fhirline.topics.tables_group import tables_group

log = structlog.get_logger("tables")

IDLE_SECONDS = 0.2
ASK_SECONDS = 30.0
"""Seconds between two questions to Kafka whether partitions that were read to their ends still end there."""

ASK_TIMEOUT = 3.0
QUEUE_KBYTES = 32_768
CLOSE_SECONDS = 5.0
CLIENT_ID = "fhirline-tables"


class OutOfRange(FhirlineError):
    """A partition does not have the offset that is to be read next."""

    def __init__(self, partition: TopicPartition) -> None:
        super().__init__(str(partition))
        self.partition = partition


Positions = Mapping[TopicPartition, int]


class Reader:
    """A consumer, for one caller. ``group`` shares the partitions among processes; without one, `start` names them."""

    def __init__(self, settings: Settings, group: str | None = None) -> None:
        self._settings = settings
        self._group = group or tables_group(settings)
        self._positions_of: Callable[[], Positions] = dict
        self._rebalanced = False
        self._ends: dict[TopicPartition, int] = {}
        """Partition that was read to its end → that end."""
        self._ended_at: dict[TopicPartition, float] = {}
        self._asked = float("-inf")
        self._answered = False
        self._next: dict[TopicPartition, int | None] = {}
        self._polling = threading.Lock()
        self._lags: list[Lag] = []
        self._consumer = new_client(
            Consumer,
            librdkafka(
                settings,
                **{
                    "group.id": self._group,
                    "client.id": CLIENT_ID,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_uncommitted",  # as the worker reads
                    "queued.max.messages.kbytes": QUEUE_KBYTES,
                    # The same numbers of all topics come to the same process: all records of a patient.
                    "partition.assignment.strategy": "range",
                    "session.timeout.ms": int(settings.session_timeout * 1000),
                    "heartbeat.interval.ms": int(settings.session_timeout * 100),
                    "max.poll.interval.ms": int(max(300.0, settings.session_timeout) * 1000),
                    "error_cb": log_error,
                },
            ),
        )

    def start(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Read on from these offsets; None: from the beginning."""
        self._next = dict(positions)
        self._ends.clear()
        self._ended_at.clear()
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset)
                for partition, offset in positions.items()
            ]
        )

    def join(self, topics: Collection[str], positions: Callable[[], Positions]) -> None:
        """Share the partitions of these topics with the group; join it anew where this process is in it.

        ``positions`` is called within `read`, with each assignment. It returns where to read on: partitions without a
        position are read from the beginning.
        """
        self._positions_of = positions
        self._consumer.unsubscribe()
        self._forget()
        self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, _: Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        positions = self._positions_of()
        assigned = [TopicPartition(partition.topic, partition.partition) for partition in partitions]
        self.start({partition: positions.get(partition) for partition in assigned})
        self._rebalanced = True
        log.info("partitions assigned", partitions=len(assigned), numbers=sorted({item.partition for item in assigned}))

    def _revoked(self, consumer: Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        self._forget()
        self._rebalanced = True
        consumer.unassign()
        log.info("partitions revoked", partitions=len(partitions))

    def _forget(self) -> None:
        self._next = {}
        self._ends.clear()
        self._ended_at.clear()

    def read(self, most: int, most_bytes: int, within: float, until_end: bool = False) -> list[ConsumerRecord]:
        """Return the next records in their order: those that arrive within ``within`` seconds of the first.

        ``until_end``: only up to the ends of all partitions, without waiting for later records.

        Raises OutOfRange, and KafkaAccessError or ConfigurationError for errors that waiting does not resolve.
        """
        with self._polling:
            found = self._read(most, most_bytes, within, until_end)
            self._lags = self._current_lags()
        return found

    def _read(self, most: int, most_bytes: int, within: float, until_end: bool) -> list[ConsumerRecord]:
        found: list[ConsumerRecord] = []
        size = 0
        self._rebalanced = False
        message = self._consumer.poll(IDLE_SECONDS)
        until = time.monotonic() + within
        while True:
            if self._rebalanced:  # what was read before belongs to whoever has the partitions now
                self._rebalanced = False
                found.clear()
                size = 0
            if message is not None and (record := self._record(message)) is not None:
                found.append(record)
                size += len(record.value or b"") + len(record.key or b"")
            left = until - time.monotonic()
            if len(found) >= most or size >= most_bytes or left <= 0 or not (found or message is not None):
                return found
            if until_end and self._next and self.at_end:
                return found
            message = self._consumer.poll(left)  # one at a time: none of an earlier assignment comes after a later one

    @property
    def at_end(self) -> bool:
        """Tell whether every partition was read to the end that its leader last reported."""
        return self._ends.keys() >= self._next.keys()

    @property
    def partitions(self) -> list[TopicPartition]:
        """Return the partitions that this process reads now."""
        return list(self._next)

    def complete_at(self) -> dict[TopicPartition, float] | None:
        """Return when each partition was last at its end, in UNIX seconds.

        None before each has been there once, and while Kafka does not answer: nothing arrives then either. While
        records keep coming, the partitions are hardly ever all at their ends in the same moment.
        """
        if not self._next or not self._ended_at.keys() >= self._next.keys():
            return None
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._answered = self._still_at_ends()
            self._asked = time.monotonic()
        return {partition: self._ended_at[partition] for partition in self._next} if self._answered else None

    def _still_at_ends(self) -> bool:
        """Ask for the ends of the partitions that were read to theirs, and note which have not moved."""
        at = time.time()
        asked = [confluent_kafka.TopicPartition(*partition, OFFSET_END) for partition in self._ends]
        try:
            answers = self._consumer.offsets_for_times(asked, timeout=ASK_TIMEOUT) if asked else []
        except confluent_kafka.KafkaException:
            return False
        for answer in answers:
            partition = TopicPartition(answer.topic, answer.partition)
            # less: embedded_quirks, low end offsets
            if answer.error is None and answer.offset <= self._ends[partition]:
                self._ended_at[partition] = at
        return all(answer.error is None for answer in answers)

    def range(self, partition: TopicPartition) -> tuple[int, int]:
        """Return the first and the end offset of a partition."""
        try:
            found: tuple[int, int] = self._consumer.get_watermark_offsets(
                confluent_kafka.TopicPartition(*partition), timeout=30
            )
        except confluent_kafka.KafkaException as error:
            raise KafkaRequestFailed(
                f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} did not tell the offsets of {partition}: "
                f"{error.args[0].name()}"
            ) from None
        return found

    def lags(self) -> list[Lag]:
        """Return how many records each partition has after the last one that was read, as of the last fetch.

        While another thread reads, the lags are those of its last `read`: confluent-kafka locks a consumer while it
        polls, and a call for a cached offset may wait without end.
        """
        if self._polling.acquire(blocking=False):
            try:
                self._lags = self._current_lags()
            finally:
                self._polling.release()
        return self._lags

    def _current_lags(self) -> list[Lag]:
        found = []
        for partition, following in list(self._next.items()):
            low, end = self._consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*partition), cached=True)
            if end >= 0:  # else nothing of it has been fetched so far
                found.append(Lag(*partition, max(0, end - (max(low, 0) if following is None else following))))
        return found

    def close(self) -> None:
        """Leave the group, or let its session time out where Kafka does not answer: librdkafka waits without end."""
        closing = threading.Thread(target=self._consumer.close, name="tables-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _record(self, message: Message) -> ConsumerRecord | None:
        partition = partition_of(message)
        if (error := message.error()) is not None:
            self._failed(partition, error, message.offset())
            return None
        if partition not in self._next:
            return None
        record = from_confluent(message)
        following = self._next[partition]
        if following is not None and record.offset < following:
            raise OutOfRange(partition)
        self._next[partition] = record.offset + 1
        self._ends.pop(partition, None)
        return record

    def _failed(self, partition: TopicPartition, error: KafkaError, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[partition] = -1 if offset is None else offset
            self._ended_at[partition] = time.time()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise OutOfRange(partition)
        elif error.code() in DENIED:
            raise KafkaDenied(f"{PREFIX}BOOTSTRAP: {denial(self._settings, error, partition.topic, self._group)}")
        elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise ConfigurationError(f"topic {partition.topic} is missing: run `fhirline topics apply`")
        elif error.fatal():
            raise KafkaRequestFailed(f"{PREFIX}BOOTSTRAP: {error.name()}")
        else:
            log_error(error)
