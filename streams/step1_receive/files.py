"""Historical events out of NDJSON files into the raw topic: the same records that the gateway would have written.

A line counts as taken once Kafka has acknowledged it. Memory is bounded whatever the size of files and lines: lines are
read one at a time up to a limit, and no more of them are on their way than `WINDOW` and librdkafka's queue allow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from confluent_kafka import KafkaError, KafkaException, Message

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.records import produce
from fhirline.streams.step1_receive.raw_producer import TOO_LARGE, KafkaUnavailable, existing_topics, raw_producer
from fhirline.streams.step1_receive.raw_record import now, raw_record
from fhirline.streams.step1_receive.routes import Route
from fhirline.topics.declared import raw_topic

WINDOW = 10_000
"""Lines on their way at most: each is remembered until it is acknowledged, so that it can still be rejected."""

BOM = b"\xef\xbb\xbf"


class TopicMissing(FhirlineError):
    """The raw topic is not there; Kafka must not be let make it, with a number of partitions of its own."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line and where it stands. ``content`` is without its end; None: longer than the limit."""

    file: str
    number: int
    content: bytes | None
    size: int
    """Bytes read for it, its end included."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that did not become a raw record; the reason quotes nothing of it."""

    line: Line
    code: str
    reason: str


@dataclass(slots=True)
class Count:
    """How far an ingest is. Every line read is blank, taken, rejected, or still on its way."""

    read: int = 0
    bytes_read: int = 0
    blank: int = 0
    taken: int = 0
    rejected: int = 0


def lines(name: str, stream: BinaryIO, limit: int) -> Iterator[Line]:
    """The lines of a file from 1; of a line longer than ``limit`` only its place is kept."""
    number = 0
    while head := stream.readline(limit + 2):
        number += 1
        size, content = len(head), head.rstrip(b"\r\n")
        while not head.endswith(b"\n") and (head := stream.readline(limit + 2)):
            size += len(head)
        if number == 1:
            content = content.removeprefix(BOM)
        yield Line(name, number, content if len(content) <= limit else None, size)


class Ingest:
    """Puts lines into a vendor's raw topic. ``rejected`` is called with each that cannot be, in no certain order."""

    def __init__(
        self, settings: Settings, route: Route, received_at: Instant | None, rejected: Callable[[Rejected], None]
    ) -> None:
        self.count = Count()
        self._settings = settings
        self._route = route
        self._received_at = received_at
        self._rejected = rejected
        self._failed: KafkaError | None = None
        self._producer = raw_producer(settings, settings.delivery_timeout, linger_ms=20)
        if raw_topic(route.vendor) not in existing_topics(self._producer, settings.delivery_timeout):
            raise TopicMissing(raw_topic(route.vendor))

    def put(self, line: Line) -> None:
        """Hand one line to Kafka, waiting where too many are on their way; raises KafkaUnavailable."""
        self.count.read += 1
        self.count.bytes_read += line.size
        if line.content is None:
            self._reject(line, "too-large", f"the line is longer than {self._settings.message_max_bytes} bytes")
        elif not line.content.strip():
            self.count.blank += 1
        else:
            self._produce(line, line.content)
        while len(self._producer) >= WINDOW:
            self._producer.poll(0.1)
        self._producer.poll(0)
        self._check()

    def finish(self) -> None:
        """Wait until every line is acknowledged or rejected; raises KafkaUnavailable where one will not be."""
        self._producer.flush()  # ends: what is not acknowledged within the delivery timeout fails
        self._check()

    def abandon(self) -> None:
        """Let go of what is on its way, after a failure or an interruption."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _produce(self, line: Line, content: bytes) -> None:
        route = self._route
        try:
            at = self._received_at or now()
            record = raw_record(route.vendor, route.tenant, content, at, route.event, self._settings.max_depth)
        except UnreadableBody as error:
            return self._reject(line, error.code, str(error))

        def report(error: KafkaError | None, message: Message) -> None:
            error = delivery_error(error, message)
            if error is None:
                self.count.taken += 1
            elif error.code() in TOO_LARGE:
                self._reject(line, "record-too-large", "the event is larger than Kafka takes")
            else:
                self._failed = self._failed or error

        while True:
            try:
                return produce(self._producer, record, report)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() not in TOO_LARGE:
                    raise KafkaUnavailable(error.args[0].name()) from None
                return self._reject(line, "record-too-large", "the event is larger than Kafka takes")

    def _reject(self, line: Line, code: str, reason: str) -> None:
        self.count.rejected += 1
        self._rejected(Rejected(line, code, reason))

    def _check(self) -> None:
        if self._failed is not None:
            raise KafkaUnavailable(self._failed.name())
