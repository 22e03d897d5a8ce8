"""Reading topics as they lie, outside any group: partitions from a position to their end, or one record by its place.

For what looks at records without consuming them (erasure, trace). The end of a partition is where the broker says so
(``enable.partition.eof``), not an end offset asked for beforehand: on the embedded broker that one is too low.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.acl_check import DENIED, denied
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import Headers
from fhirline.streams.kafka.records import ConsumerRecord

Place = tuple[str, int]
"""A topic and one of its partitions."""

BATCH = 5_000
POLL_SECONDS = 1.0
SILENCE_SECONDS = 30.0
"""How long a broker may say nothing at all before it is given up."""

Progress = Callable[[str, int], None]
"""Called now and then with a topic, and how many of its records have been read since."""


class Scanner:
    """A consumer without a group. Raises ConfigurationError where Kafka does not answer or a topic is missing::

    with Scanner(settings) as scanner:
        for message in scanner.read({("raw.mediquo", 3): None}):
            ...
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self._settings = settings
        self._progress = progress
        self._group = f"{settings.group}.scan"  # librdkafka wants one; nothing is ever committed
        self._consumer = Consumer(
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
                    "log_level": 0,  # what goes wrong is raised
                },
            ),
            logger=logging.getLogger("librdkafka"),
        )

    def __enter__(self) -> "Scanner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> range:
        """The partitions of a topic; none where it does not exist."""
        try:
            found = self._consumer.list_topics(topic, timeout=SILENCE_SECONDS).topics[topic]
        except KafkaException as error:
            raise self._unanswered(error.args[0].str()) from None
        if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise self._denied(found.error, topic)  # else it would pass for one that is not there, and nothing be found
        return range(len(found.partitions))

    def first(self, topic: str, partition: int) -> int:
        """The first offset that is kept."""
        try:
            first, _ = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=SILENCE_SECONDS)
        except KafkaException as error:
            raise self._unanswered(error.args[0].str()) from None
        return first

    def read(
        self, places: Mapping[Place, int | None], upto: Mapping[Place, int] | None = None, whole: bool = False
    ) -> Iterator[Message]:
        """Every record from each place's offset (None: from its beginning) to the partition's end.

        ``upto``: offsets at which a partition is done before its end. ``whole``: the log is known to reach so far, and
        an earlier end is that of a leader which does not know it yet: it is waited for.
        """
        if not places:
            return
        upto = upto or {}
        self._consumer.assign(
            [TopicPartition(*place, OFFSET_BEGINNING if offset is None else offset) for place, offset in places.items()]
        )
        unread = set(places)
        silent_since = time.monotonic()
        while unread:
            counted: dict[str, int] = {}
            for message in self._available():
                silent_since = time.monotonic()
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        if not whole or (message.offset() or 0) >= upto.get(place, 0):
                            unread.discard(place)
                    elif error.code() in _MISSING:
                        raise ConfigurationError(f"topic {place[0]} is missing: run `fhirline topics apply`")
                    elif error.code() in DENIED:
                        raise self._denied(error, place[0])
                    elif not error.retriable():
                        raise self._unanswered(f"{place[0]}/{place[1]}: {error.name()}")
                elif place in unread:
                    counted[place[0]] = counted.get(place[0], 0) + 1
                    if (message.offset() or 0) < upto.get(place, _NEVER):
                        yield message
                    else:
                        unread.discard(place)
            if self._progress is not None:
                for topic, count in counted.items():
                    self._progress(topic, count)
            if time.monotonic() - silent_since > SILENCE_SECONDS:
                raise self._unanswered(f"nothing for {SILENCE_SECONDS:g} s")

    def at(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record at one place; None where it is gone (retention) or was never there."""
        if partition not in self.partitions(topic):
            return None
        for message in self.read({(topic, partition): offset}, {(topic, partition): offset + 1}):
            return message if message.offset() == offset else None
        return None

    def _available(self) -> list[Message]:
        first = self._consumer.poll(POLL_SECONDS)
        return [first, *self._consumer.consume(BATCH, 0)] if first is not None else []

    def _denied(self, error: KafkaError, topic: str) -> ConfigurationError:
        return ConfigurationError(f"FHIRLINE_BOOTSTRAP: {denied(self._settings, error, topic, self._group)}")

    def _unanswered(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"FHIRLINE_BOOTSTRAP: {self._settings.bootstrap} does not answer ({reason})")


_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_NEVER = 1 << 62


def place_of(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0


def headers_of(message: Message) -> Headers:
    """The record's headers that have a value."""
    sent = message.headers() or []
    pairs: Iterable[tuple[str, object]] = sent.items() if isinstance(sent, dict) else sent
    return [(name, held) for name, held in pairs if isinstance(held, bytes)]


def timestamp_ms(message: Message) -> int:
    """UNIX milliseconds; 0 where the record has none."""
    return max(int(message.timestamp()[1]), 0)


def raw_record(vendor: str, message: Message) -> ConsumerRecord:
    """A message of a raw topic as the pipeline knows it."""
    key, value = message.key(), message.value()
    return ConsumerRecord(
        vendor,
        *place_of(message),
        message.offset() or 0,
        timestamp_ms(message),
        None if key is None else bytes(key),
        None if value is None else bytes(value),
        headers_of(message),
    )
