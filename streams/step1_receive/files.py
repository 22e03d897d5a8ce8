"""Write historical events from NDJSON files into the raw topic, as the records that the gateway would have written.

A line counts as taken once Kafka has acknowledged it. Memory is bounded for files and lines of any size: lines are read
one at a time up to a limit, and `WINDOW` and librdkafka's queue limit those in flight.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from confluent_kafka import KafkaError, KafkaException, Message

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import BOM, UnreadableBody
from fhirline.streams.kafka.delivery_report import delivery_error, take_all_reports, take_reports
from fhirline.streams.kafka.records import ProducerRecord, produce
from fhirline.streams.step1_receive.patient_keys import Patient, PatientKeys, patient_of, to_be_sealed
from fhirline.streams.step1_receive.raw_producer import TOO_LARGE, KafkaUnavailable, existing_topics, raw_producer
from fhirline.streams.step1_receive.raw_record import now, raw_record
from fhirline.streams.step1_receive.routes import Route
from fhirline.topics.declared import KEYS, raw_topic

WINDOW = 10_000
"""Limit of lines in flight. Each is kept until it is acknowledged, so that it can still be rejected."""


class TopicMissing(FhirlineError):
    """The raw topic does not exist. A broker that creates it would choose its own number of partitions."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its place. ``content`` is without the line end; None for a line longer than the limit."""

    file: str
    number: int
    content: bytes | None
    size: int
    """Bytes read for the line, including its end."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that did not become a raw record. The reason quotes nothing of it."""

    line: Line
    code: str
    reason: str


@dataclass(slots=True)
class Count:
    """The progress of an ingest. Every line read is blank, taken, rejected, or in flight."""

    read: int = 0
    bytes_read: int = 0
    blank: int = 0
    taken: int = 0
    rejected: int = 0


def lines(name: str, stream: BinaryIO, limit: int) -> Iterator[Line]:
    """Yield the lines of a file, numbered from 1. A line longer than ``limit`` comes without its content."""
    number = 0
    while head := stream.readline(limit + 2):
        number += 1
        size, content = len(head), head.rstrip(b"\r\n")
        while not head.endswith(b"\n") and (head := stream.readline(limit + 2)):
            size += len(head)
        yield Line(name, number, content if len(content) <= limit else None, size)


class Ingest:
    """Writes lines to a vendor's raw topic. ``rejected`` is called with every line that fails, in any order."""

    def __init__(
        self, settings: Settings, route: Route, received_at: Instant | None, rejected: Callable[[Rejected], None]
    ) -> None:
        self.count = Count()
        self._settings = settings
        self._route = route
        self._received_at = received_at
        self._rejected = rejected
        self._failed: KafkaError | None = None
        self._keys = PatientKeys.of(settings)
        self._waiting: dict[Patient, list[tuple[Line, ProducerRecord]]] = {}
        """Lines whose patient's data key is not acknowledged yet, by the patient."""
        self._ready: deque[tuple[Line, ProducerRecord]] = deque()
        """Lines whose data key is there by now. A delivery report must not produce: with a full queue it would poll."""
        self._producer = raw_producer(settings, settings.delivery_timeout, linger_ms=20)
        topics = existing_topics(self._producer, settings.delivery_timeout)
        for topic in (raw_topic(route.vendor), *([] if self._keys is None else [KEYS])):
            if topic not in topics:
                raise TopicMissing(topic)
        self._partitions = topics[raw_topic(route.vendor)]

    def put(self, line: Line) -> None:
        """Hand one line to Kafka, after a wait where too many are in flight. Raises KafkaUnavailable."""
        self.count.read += 1
        self.count.bytes_read += line.size
        if line.content is None:
            self._reject(line, "too-large", f"the line is longer than {self._settings.message_max_bytes} bytes")
        elif not line.content.removeprefix(BOM).strip():
            self.count.blank += 1
        else:
            self._produce(line, line.content)
        while len(self._producer) + sum(map(len, self._waiting.values())) >= WINDOW:
            take_reports(self._producer, 0.1)
            self._send_ready()
        take_reports(self._producer)
        self._send_ready()
        self._check()

    def finish(self) -> None:
        """Wait until every line is acknowledged or rejected. Raises KafkaUnavailable."""
        while len(self._producer) or self._ready:
            take_all_reports(self._producer)  # ends: what is not acknowledged within the delivery timeout fails
            self._send_ready()
        self._check()

    def abandon(self) -> None:
        """Drop the lines in flight, after a failure or an interruption."""
        self._producer.purge()
        take_all_reports(self._producer, 1.0)

    def _produce(self, line: Line, content: bytes) -> None:
        route = self._route
        try:
            at = self._received_at or now()
            record = raw_record(route.vendor, route.tenant, content, at, route.event, self._settings.max_depth)
        except UnreadableBody as error:
            return self._reject(line, error.code, str(error))
        if self._keys is None:
            return self._send(line, record)
        patient = patient_of(record, self._partitions)
        if patient in self._waiting:
            self._waiting[patient].append((line, record))
        elif (key := self._keys.known(patient)) is not None:
            self._send(line, to_be_sealed(record, patient.partition, key))
        else:
            self._waiting[patient] = [(line, record)]
            self._make_key(self._keys, patient)

    def _make_key(self, keys: PatientKeys, patient: Patient) -> None:
        """Write a patient's data key, and the patient's lines when it is acknowledged."""
        new = keys.new(patient)

        def report(error: KafkaError | None, message: Message) -> None:
            waiting = self._waiting.pop(patient)
            if (error := delivery_error(error, message)) is not None:
                self._failed = self._failed or error
                return
            keys.keep(new)
            self._ready.extend((line, to_be_sealed(record, patient.partition, new.key)) for line, record in waiting)

        try:
            self._hand_over(new.record, report)
        except KafkaException as error:
            self._failed = self._failed or error.args[0]

    def _send_ready(self) -> None:
        while self._ready:
            self._send(*self._ready.popleft())

    def _send(self, line: Line, record: ProducerRecord) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            error = delivery_error(error, message)
            if error is None:
                self.count.taken += 1
            elif error.code() in TOO_LARGE:
                self._reject(line, "record-too-large", "the event is larger than Kafka takes")
            else:
                self._failed = self._failed or error

        try:
            self._hand_over(record, report)
        except KafkaException as error:
            if error.args[0].code() not in TOO_LARGE:
                raise KafkaUnavailable(error.args[0].name()) from None
            self._reject(line, "record-too-large", "the event is larger than Kafka takes")

    def _hand_over(self, record: ProducerRecord, report: Callable[[KafkaError | None, Message], None]) -> None:
        """Hand a record to librdkafka, after a wait where its queue is full. Raises KafkaException."""
        while True:
            try:
                return produce(self._producer, record, report)
            except BufferError:
                take_reports(self._producer, 0.1)

    def _reject(self, line: Line, code: str, reason: str) -> None:
        self.count.rejected += 1
        self._rejected(Rejected(line, code, reason))

    def _check(self) -> None:
        if self._failed is not None:
            raise KafkaUnavailable(self._failed.name())
