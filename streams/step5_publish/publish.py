"""The barrier: everything that follows from a batch is acknowledged by Kafka, or the process ends.

An offset may be committed once every record that follows from its event (resources, Bundle, outcome, dead letter,
state) has been acknowledged by all in-sync replicas. Until then the raw record is the only copy, and not committing is
what keeps it: after a restart the batch is read again and, mapping being pure, the same bytes go out under the same
keys. So a failed barrier loses nothing as long as nobody commits, and the surest way not to commit is to end
(faust.md §2.2 to §2.4).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import producer_config
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.records import ProducerRecord, produce

_TOO_LARGE_CODES = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

PRODUCERS = 6
"""A worker's producers. Each sends a broker one request at a time, which is for one partition, and the records of an
event go to some twenty: by one producer they would wait for each other (benchmarks/NOTES.md)."""

QUEUED_KBYTES = 1_048_576
"""What all of them hold at most on its way."""

REPORT_GRACE = 2.0
"""Seconds beyond the delivery timeout in which librdkafka must have said what became of a record."""

POLL_SECONDS = 0.002
"""Between two looks at what has been reported: as long as records linger before they go out."""

BREATHE_EVERY = 500
"""Records sent at a stretch before heartbeats and fetches get their turn."""

SESSION_SHARE = 0.9
"""Of the session timeout: how long a record may wait at most. Heartbeats come every tenth (step2)."""

Delivered = Callable[[Message], None]
"""Called with a record as Kafka has acknowledged it, with its partition and offset."""


class PublishFailed(FhirlineError):
    """Something could not be delivered for good. The message names topics and librdkafka's error, no payload."""


class RecordPublisher:
    """librdkafka's idempotent producers, used batch by batch. A topic always has the same one: what must stay in order,
    the records of a partition, is never shared by two."""

    def __init__(self, settings: Settings, producers: int = 1) -> None:
        # When a paused process continues, librdkafka's own threads may send what they hold before any line of ours
        # runs: it must have expired by then. The group puts a member out one session after its last heartbeat, which
        # was at most a tenth of one before the pause; a record that waits no longer than the rest is never sent after.
        self._timeout = min(settings.delivery_timeout, settings.session_timeout * SESSION_SHARE)
        config = producer_config(
            settings,
            **{
                "delivery.timeout.ms": int(self._timeout * 1000),
                "linger.ms": 2,  # a batch is awaited: a longer linger only adds latency
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": QUEUED_KBYTES // producers,
            },
        )
        # With OAUTHBEARER each stands still for a second until it has its first token: now, and all at once, for an
        # event loop that stood still so long would end its worker (fence.py).
        with ThreadPoolExecutor(producers) as together:
            self._producers = tuple(together.map(lambda _: Producer(config), range(producers)))
        self._of_topic: dict[str, Producer] = {}

    def publish(
        self, records: Iterable[ProducerRecord], delivered: Delivered | None = None
    ) -> Sequence[ProducerRecord]:
        """Write the records and wait for every acknowledgement; blocking, for a command.

        Returns the records that are too large for Kafka, which the caller must dead-letter in the same barrier.
        Raises PublishFailed where any other record was not acknowledged.
        """
        reports = _Reports(delivered)
        for pause in self._delivering(records, reports):
            self._poll(pause)
        return reports.refused()

    async def publish_async(
        self, records: Iterable[ProducerRecord], delivered: Delivered | None = None
    ) -> Sequence[ProducerRecord]:
        """As `publish`, on the worker's event loop, which goes on beside it.

        On purpose without a thread: every delivery report calls Python, so a thread would wait for the interpreter, up
        to 5 ms while another batch is mapped, for each of an event's twenty records.
        """
        reports = _Reports(delivered)
        for pause in self._delivering(records, reports):
            await asyncio.sleep(pause)
            self._poll(0)
        return reports.refused()

    def _delivering(self, records: Iterable[ProducerRecord], reports: "_Reports") -> Iterator[float]:
        """Sends everything and ends when Kafka has said of each record what became of it.

        Yields seconds to wait for reports, which the caller then takes by polling.
        """
        for number, record in enumerate(records, 1):
            while not self._sent(record, reports):
                yield POLL_SECONDS  # reports make room in the queue
            if number % BREATHE_EVERY == 0:
                yield 0.0
        given_up = time.monotonic() + self._timeout + REPORT_GRACE
        while reports.count != len(reports.sent):
            if time.monotonic() > given_up:
                unknown = len(reports.sent) - reports.count
                raise PublishFailed(f"{unknown} records unacknowledged after {self._timeout:g} s")
            yield POLL_SECONDS

    def _poll(self, seconds: float) -> None:
        """Take delivery reports; waits for some, at most so long, from the first producer alone."""
        for each in self._producers[1:]:
            each.poll(0)
        self._producers[0].poll(seconds)

    def _producer(self, topic: str) -> Producer:
        """The topic's producer: topics take turns, in the order in which they are first written to."""
        if (producer := self._of_topic.get(topic)) is None:
            turn = len(self._of_topic) % len(self._producers)
            producer = self._of_topic[topic] = self._producers[turn]
        return producer

    def _sent(self, record: ProducerRecord, reports: "_Reports") -> bool:
        """Whether librdkafka has taken the record; not while its queue is full. Raises PublishFailed."""
        try:
            produce(self._producer(record.topic), record, reports.take)
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].code() not in _TOO_LARGE_CODES:
                raise PublishFailed(f"{record.topic}: {error.args[0].name()}") from None
            reports.too_large.add(_known(record))
            reports.count += 1
        reports.sent.append(record)
        return True


class _Reports:
    """What Kafka has said of a batch's records: one object for all, for thousands a second would keep the garbage
    collector at work."""

    __slots__ = ("_delivered", "_failed", "count", "sent", "take", "too_large")

    def __init__(self, delivered: Delivered | None) -> None:
        self.sent: list[ProducerRecord] = []
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

    def refused(self) -> Sequence[ProducerRecord]:
        """The records that are too large. Raises PublishFailed where others were not acknowledged either."""
        if self._failed:
            raise PublishFailed("; ".join(sorted(self._failed)[:5]))
        too_large = [each for each in self.sent if _known(each) in self.too_large] if self.too_large else []
        if len({_known(each) for each in too_large}) < len(self.too_large):
            raise PublishFailed("a record that is too large is none of those sent")  # it would go without a letter
        return too_large


def _known(record: ProducerRecord) -> tuple[str, bytes, bytes | None]:
    """What a record is known by when only Kafka's report of it is at hand."""
    return record.topic, record.key, record.value
