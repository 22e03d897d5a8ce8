"""Kafka's two kinds of records and their positions, with one converter per client library.

``ConsumerRecord`` is a record that was read, ``ProducerRecord`` one that is to be written. The only other form is
`operate.trace.find.RecordSummary`, which has no value: trace collects thousands of records and shows no payload.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fhirline.streams.kafka.headers import EVENT_KEY, Headers, header
from fhirline.topics.declared import vendor_of

if TYPE_CHECKING:
    from confluent_kafka import Message, Producer

    from fhirline.streams.kafka.encryption.data_key import DataKey

ANY_PARTITION = -1
"""librdkafka's RD_KAFKA_PARTITION_UA: the partitioner chooses by the key."""

_POSITION = re.compile(r"([a-zA-Z0-9._-]{1,249})/(\d{1,9})/(\d{1,18})")


class TopicPartition(NamedTuple):
    """A topic and one of its partitions."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class RecordPosition(NamedTuple):
    """The position of a record. Its text is ``topic/partition/offset``, the form of the header ``raw``.

    >>> str(RecordPosition("raw.mediquo", 3, 17))
    'raw.mediquo/3/17'
    >>> RecordPosition.parse("raw.mediquo/3/17")
    RecordPosition(topic='raw.mediquo', partition=3, offset=17)
    """

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read the text form; None where the text has another form."""
        found = _POSITION.fullmatch(text or "")
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Lag:
    """Records of a partition that a process has yet to finish (end offset minus committed offset)."""

    topic: str
    partition: int
    records: int


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """A record as it was read from a topic. ``timestamp_ms``: the record's own, UNIX milliseconds, 0 for none.

    ``data_key``: the key that it was opened with, where it was sealed (`kafka.encryption`). ``key_destroyed``: it is
    sealed with a key that was destroyed, since its patient was erased.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    data_key: "DataKey | None" = field(default=None, repr=False, compare=False)
    key_destroyed: bool = False

    @property
    def vendor(self) -> str:
        """Return the vendor whose topic this is; for raw, enriched and dead-letter topics only."""
        return vendor_of(self.topic)

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def position(self) -> RecordPosition:
        return RecordPosition(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """A record to be written.

    ``partition`` None: chosen by the key (murmur2). ``timestamp_ms`` None: the time of writing. ``constant``: every
    event makes the same bytes, so that a worker writes them once. ``data_key``: what it is sealed with when it is
    written; None for a record that is written as it is.
    """

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    headers: Headers = field(default_factory=list)
    timestamp_ms: int | None = None
    constant: bool = False
    data_key: "DataKey | None" = field(default=None, repr=False, compare=False)

    @property
    def event_key(self) -> str:
        """Return the header ``event-key``; empty where there is none."""
        return header(self.headers, EVENT_KEY) or ""

    def at(self, partition: int, offset: int) -> ConsumerRecord:
        """Return the record as a consumer reads it at this position."""
        return ConsumerRecord(self.topic, partition, offset, self.timestamp_ms or 0, self.key, self.value, self.headers)


def from_confluent(message: "Message") -> ConsumerRecord:
    """Convert a confluent-kafka message that bears no error."""
    key, value = message.key(), message.value()
    return ConsumerRecord(
        *position_of(message),
        timestamp_ms(message),
        None if key is None else bytes(key),
        None if value is None else bytes(value),
        headers_of(message),
    )


def from_faust(message: Any) -> ConsumerRecord:
    """Convert the message of a Faust event, with its timestamp in seconds."""
    sent = message.headers
    return ConsumerRecord(
        message.topic,
        message.partition,
        message.offset,
        round((message.timestamp or 0) * 1000),
        message.key,
        message.value,
        [
            (name, value)
            for name, value in (sent.items() if isinstance(sent, dict) else sent or ())
            if isinstance(value, bytes)
        ],
    )


def stored(record: ProducerRecord) -> ProducerRecord:
    """Return a record as its topic holds it: sealed, where it has a data key."""
    return record if record.data_key is None else record.data_key.seal(record)


def produce(
    producer: "Producer",
    record: ProducerRecord,
    on_delivery: Callable[..., None] | None = None,
    data_key: "DataKey | None" = None,
    partition: int | None = None,
) -> None:
    """Hand a record to librdkafka, sealed where it has a data key.

    ``data_key``, ``partition``: of a record that has none itself; a copy with them would cost as much as sealing.
    Raises BufferError while its queue is full, KafkaException where it refuses.
    """
    data_key = record.data_key or data_key
    key, value, headers = (record.key, record.value, record.headers) if data_key is None else data_key.sealed(record)
    if record.partition is not None:
        partition = record.partition
    producer.produce(
        record.topic,
        value,
        key,
        ANY_PARTITION if partition is None else partition,
        on_delivery,
        timestamp=record.timestamp_ms or 0,  # librdkafka takes 0 for the time of writing
        headers=headers,  # type: ignore[arg-type]  # a list is invariant in its items
    )


# Parts of a confluent-kafka message, for scans that convert few of the messages they read.


def partition_of(message: "Message") -> TopicPartition:
    return TopicPartition(message.topic() or "", message.partition() or 0)


def position_of(message: "Message") -> RecordPosition:
    return RecordPosition(message.topic() or "", message.partition() or 0, message.offset() or 0)


def headers_of(message: "Message") -> Headers:
    """Return the message's headers that have a value."""
    sent = message.headers() or []
    pairs = sent.items() if isinstance(sent, dict) else sent
    return [(name, value) for name, value in pairs if isinstance(value, bytes)]


def timestamp_ms(message: "Message") -> int:
    """Return the timestamp of a message as UNIX milliseconds; 0 where it has none."""
    return max(int(message.timestamp()[1]), 0)
