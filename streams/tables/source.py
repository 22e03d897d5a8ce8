"""Reading on from positions, outside any consumer group."""

import time
from collections.abc import Mapping

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message

from fhirline.config.errors import ConfigurationError, FhirlineError, KafkaDenied, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.acl_check import DENIED, denial
from fhirline.streams.kafka.clients import librdkafka, log_error, new_client
from fhirline.streams.kafka.records import ConsumerRecord, Lag, TopicPartition, from_confluent, partition_of

CHUNK = 500
"""Records between two looks at how many bytes a batch has."""
IDLE_SECONDS = 0.2
QUEUE_KBYTES = 32_768
CLIENT_ID = "fhirline-tables"


class OutOfRange(FhirlineError):
    """A partition does not have the offset that is to be read next."""

    def __init__(self, partition: TopicPartition) -> None:
        super().__init__(str(partition))
        self.partition = partition


class Reader:
    """A consumer that is told its partitions. One caller at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._group = tables_group(settings)  # librdkafka requires one; nothing is committed
        self._ends: set[TopicPartition] = set()
        self._ended_at: dict[TopicPartition, float] = {}
        self._next: dict[TopicPartition, int | None] = {}
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

    def read(self, most: int, most_bytes: int, within: float) -> list[ConsumerRecord]:
        """Return the next records in their order: those that arrive within ``within`` seconds of the first.

        Raises OutOfRange, and KafkaAccessError or ConfigurationError for errors that waiting does not resolve.
        """
        found: list[ConsumerRecord] = []
        size = 0
        first = self._consumer.poll(IDLE_SECONDS)
        until = time.monotonic() + within
        messages = [] if first is None else [first]
        while messages:
            for message in messages:
                if (record := self._record(message)) is not None:
                    found.append(record)
                    size += len(record.value or b"") + len(record.key or b"")
            left = until - time.monotonic()
            if len(found) >= most or size >= most_bytes or left <= 0:
                break
            messages = self._consumer.consume(min(CHUNK, most - len(found)), left)
        return found

    @property
    def at_end(self) -> bool:
        """Tell whether every partition was read to the end that its leader last reported."""
        return self._ends.issuperset(self._next)

    def complete_at(self) -> float | None:
        """Return since when every partition has been at its end, or was last, in UNIX seconds; None for never.

        While records keep coming, the partitions are hardly ever all at their ends in the same moment.
        """
        if not self._ended_at.keys() >= self._next.keys():
            return None
        moving = [self._ended_at[partition] for partition in self._next if partition not in self._ends]
        return min(moving, default=time.time())

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
        """Return how many records each partition has after the last one that was read, as of the last fetch."""
        found = []
        for partition, following in list(self._next.items()):
            low, end = self._consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*partition), cached=True)
            if end >= 0:  # else nothing of it has been fetched so far
                found.append(Lag(*partition, max(0, end - (max(low, 0) if following is None else following))))
        return found

    def close(self) -> None:
        self._consumer.close()

    def _record(self, message: Message) -> ConsumerRecord | None:
        partition = partition_of(message)
        if (error := message.error()) is not None:
            self._failed(partition, error)
            return None
        record = from_confluent(message)
        following = self._next.get(partition)
        if following is not None and record.offset < following:
            raise OutOfRange(partition)
        self._next[partition] = record.offset + 1
        self._ends.discard(partition)
        return record

    def _failed(self, partition: TopicPartition, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends.add(partition)
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


def tables_group(settings: Settings) -> str:
    """Return the name by which the consumer joins the cluster. It commits nothing under it."""
    return f"{settings.group}.tables"
