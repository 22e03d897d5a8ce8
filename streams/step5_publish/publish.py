"""The barrier: Kafka acknowledges every record that follows from a batch, or the process ends.

An offset may be committed once all in-sync replicas have every record that follows from its event (resources, Bundle,
outcome, dead letter, state). Until then the raw record is the only copy. If the barrier fails, the process ends and
commits nothing. After the restart the batch is read again, and since mapping is pure, the same bytes go out under the
same keys (faust.md §2.2 to §2.4).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import new_client, producer_config
from fhirline.streams.kafka.delivery_report import delivery_error, take_reports
from fhirline.streams.kafka.records import ProducerRecord, produce, stored
from fhirline.streams.observe.terminal import counted

_TOO_LARGE_CODES = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

PRODUCERS = 6
"""Producers of a worker. Each has one request at a time in flight to a broker, for one partition. An event's records go
to about twenty partitions, and would wait for each other in a single producer (benchmarks/NOTES.md)."""

QUEUED_KBYTES = 1_048_576
"""Limit of what all producers together hold in their queues."""

REPORT_GRACE = 2.0
"""Seconds beyond the delivery timeout within which librdkafka must have reported on every record."""

POLL_SECONDS = 0.002
"""Interval between polls for delivery reports: as long as records linger before they are sent."""

YIELD_EVERY = 500
"""Records handed over before the event loop runs heartbeats and fetches."""

SESSION_SHARE = 0.9
"""Share of the session timeout for which a record may wait. Heartbeats come every tenth of it (step 2)."""

Delivered = Callable[[Message], None]
"""Called with each record that Kafka has acknowledged, with its partition and offset."""


class PublishFailed(FhirlineError):
    """A record was not acknowledged. The message names topics and librdkafka's error, no payload."""


class RecordPublisher:
    """Writes batches by librdkafka's idempotent producers.

    A topic always has the same producer, so that the records of a partition stay in order.
    """

    def __init__(self, settings: Settings, producers: int = 1) -> None:
        # When a paused process continues, librdkafka's threads may send what they hold before any line of ours runs.
        # Those records must have expired. The group removes a member one session after its last heartbeat, which was at
        # most a tenth of a session before the pause. A record that expires within the rest is not sent after that.
        self._timeout = min(settings.delivery_timeout, settings.session_timeout * SESSION_SHARE)
        config = producer_config(
            settings,
            **{
                "delivery.timeout.ms": int(self._timeout * 1000),
                "linger.ms": 2,  # every batch is awaited, so a longer linger only adds latency
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": QUEUED_KBYTES // producers,
            },
        )
        # With OAUTHBEARER each producer blocks for a second until it has its first token. They block here, in parallel,
        # because an event loop that blocks that long ends its worker (step2_consume/fencing.py).
        with ThreadPoolExecutor(producers) as threads:
            self._producers = tuple(threads.map(lambda _: new_client(Producer, config), range(producers)))
        self._of_topic: dict[str, Producer] = {}

    def publish(
        self, records: Iterable[ProducerRecord], delivered: Delivered | None = None
    ) -> Sequence[ProducerRecord]:
        """Write records and wait for all acknowledgements. Blocking; for commands.

        Returns the records that are too large for Kafka, which the caller must dead-letter in the same barrier.
        Raises PublishFailed where any other record was not acknowledged.
        """
        reports = _Reports(delivered)
        for pause in self._publishing(records, reports):
            self._poll(pause)
        return reports.records_too_large()

    async def publish_async(
        self, records: Iterable[ProducerRecord], delivered: Delivered | None = None
    ) -> Sequence[ProducerRecord]:
        """Write records as `publish` does, without blocking the event loop.

        It polls instead of using a thread. Every delivery report calls Python, so a thread would wait for the
        interpreter, up to 5 ms while another batch is mapped, for each of an event's twenty records.
        """
        reports = _Reports(delivered)
        for pause in self._publishing(records, reports):
            await asyncio.sleep(pause)
            self._poll(0)
        return reports.records_too_large()

    def serve_logs(self) -> None:
        """Write the log lines that librdkafka has queued. To be called now and then while nothing is published."""
        self._poll(0)

    def _publishing(self, records: Iterable[ProducerRecord], reports: "_Reports") -> Iterator[float]:
        """Hand over all records, then wait until each has its report.

        Yields the seconds to wait before the caller polls for reports. Raises PublishFailed.
        """
        for number, record in enumerate(records, 1):
            while not self._hand_over(record, reports):
                yield POLL_SECONDS  # reports make room in the queue
            if number % YIELD_EVERY == 0:
                yield 0.0
        deadline = time.monotonic() + self._timeout + REPORT_GRACE
        while reports.count != len(reports.sent):
            if time.monotonic() > deadline:
                unknown = len(reports.sent) - reports.count
                raise PublishFailed(f"{counted(unknown, 'record')} unacknowledged after {self._timeout:g} s")
            yield POLL_SECONDS

    def _poll(self, seconds: float) -> None:
        """Take delivery reports; wait up to ``seconds`` for those of the first producer."""
        for producer in self._producers[1:]:
            take_reports(producer)
        take_reports(self._producers[0], seconds)

    def _producer(self, topic: str) -> Producer:
        """Return the topic's producer. New topics are assigned round-robin."""
        if (producer := self._of_topic.get(topic)) is None:
            producer = self._of_topic[topic] = self._producers[len(self._of_topic) % len(self._producers)]
        return producer

    def _hand_over(self, record: ProducerRecord, reports: "_Reports") -> bool:
        """Hand a record to librdkafka; return False while its queue is full. Raises PublishFailed."""
        as_stored = stored(record)
        try:
            produce(self._producer(record.topic), as_stored, reports.take)
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].code() not in _TOO_LARGE_CODES:
                raise PublishFailed(f"{record.topic}: {error.args[0].name()}") from None
            reports.too_large.add(_identity(as_stored))
            reports.count += 1
        reports.sent.append((record, as_stored))
        return True


class _Reports:
    """The delivery reports of a batch. One object for all records: thousands per second would load the collector."""

    __slots__ = ("_delivered", "_failed", "count", "sent", "take", "too_large")

    def __init__(self, delivered: Delivered | None) -> None:
        self.sent: list[tuple[ProducerRecord, ProducerRecord]] = []
        """Each record, and as it is stored: the same, or sealed."""
        self.count = 0
        self.too_large: set[tuple[str, bytes, bytes | None]] = set()
        self._failed: set[str] = set()
        self._delivered = delivered
        self.take = self._take

    def _take(self, error: KafkaError | None, message: Message) -> None:
        self.count += 1
        error = delivery_error(error, message)
        if error is None:
            if self._delivered is not None:
                self._delivered(message)
        elif error.code() in _TOO_LARGE_CODES:
            self.too_large.add((message.topic() or "", bytes(message.key() or b""), message.value()))
        else:
            self._failed.add(f"{message.topic()}: {error.name()}")

    def records_too_large(self) -> Sequence[ProducerRecord]:
        """Return the records that are too large. Raises PublishFailed where another was not acknowledged."""
        if self._failed:
            raise PublishFailed("; ".join(sorted(self._failed)[:5]))
        if not self.too_large:
            return []
        found = [(record, as_stored) for record, as_stored in self.sent if _identity(as_stored) in self.too_large]
        if len({_identity(as_stored) for _, as_stored in found}) < len(self.too_large):
            raise PublishFailed("a record that is too large is none of those sent")  # it would have no dead letter
        return [record for record, _ in found]


def _identity(record: ProducerRecord) -> tuple[str, bytes, bytes | None]:
    """Return the parts of a record that its delivery report contains, too."""
    return record.topic, record.key, record.value
