"""Writes raw records, one acknowledgement awaited for each: "received" is said only once Kafka has the event for good.

librdkafka calls back where it is polled, which is the event loop: a thread of its own would have to wait for the
interpreter, and to wake the loop, for each record.
"""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import producer_config
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.records import ProducerRecord, produce

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing

log = structlog.get_logger()

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
METADATA_TIMEOUT = 3.0
GRACE = 2.0
"""Seconds beyond the delivery timeout in which librdkafka must have said what became of a record."""
QUEUE_KBYTES = 262_144
"""What waits for Kafka at most; beyond it a sender is better told to come again."""
POLL_SECONDS = 0.001
"""Between two looks at what was acknowledged, while anything is on its way."""
IDLE_SECONDS = 0.1
"""Between two looks at librdkafka's other news, while nothing is."""


class KafkaUnavailable(FhirlineError):
    """Kafka did not acknowledge a record; the message is librdkafka's name of the reason."""


class RecordTooLarge(FhirlineError):
    """A record that Kafka will never take."""


def raw_producer(settings: Settings, delivery_timeout: float, linger_ms: int) -> Producer:
    """librdkafka's idempotent producer for raw topics; its own log lines go where ours go."""
    return Producer(
        producer_config(
            settings,
            **{
                "delivery.timeout.ms": int(delivery_timeout * 1000),
                "linger.ms": linger_ms,
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "client.id": "fhirline-receive",
                "error_cb": _note,
            },
        ),
        logger=logging.getLogger("librdkafka"),
    )


def existing_topics(producer: Producer, timeout: float = METADATA_TIMEOUT) -> frozenset[str]:
    """Every topic of the cluster; raises KafkaUnavailable.

    Asked for all at once, because asking for one by name would make Kafka create it, with its own defaults.
    """
    try:
        return frozenset(producer.list_topics(timeout=timeout).topics)
    except KafkaException as error:
        raise KafkaUnavailable(error.args[0].name()) from None


class RawProducer:
    """`send` for the gateway's event loop; to be closed with `stop`.

    An idempotent producer that has failed may never work again (fatal errors; a broker that no longer knows its id), so
    the next record goes by a new one. The failed one keeps what it still holds, until each of these is decided too.
    """

    def __init__(self, settings: Settings, tracing: "Tracing | None" = None) -> None:
        self._settings = settings
        self._tracing = tracing
        self._timeout = settings.gateway_delivery_timeout
        self._topics: frozenset[str] = frozenset()
        self._asking = asyncio.Lock()
        self._link = self._connect()

    async def stop(self) -> int:
        """Wait for what is on its way; how many records were still not acknowledged."""
        return await self._link.close(self._timeout)

    async def topics(self) -> frozenset[str]:
        """Every topic there is now; raises KafkaUnavailable. One request at a time, whoever asks."""
        async with self._asking:
            self._topics = await asyncio.to_thread(existing_topics, self._link.producer)
            return self._topics

    async def send(self, record: ProducerRecord) -> None:
        """Write a record and wait for acks=all; raises KafkaUnavailable or RecordTooLarge."""
        if self._tracing is None:
            return await self._send(record)
        with self._tracing.sending(record) as carried:
            await self._send(carried)

    async def _send(self, record: ProducerRecord) -> None:
        if record.topic not in self._topics and record.topic not in await self.topics():
            log.error("topic missing", topic=record.topic, remedy="fhirline topics apply")
            raise KafkaUnavailable("topic missing")
        link = self._link
        try:
            error = await link.acknowledged(record, self._timeout + GRACE)
        except BufferError:
            raise KafkaUnavailable("_QUEUE_FULL") from None
        if error is None:
            return
        if error.code() in TOO_LARGE:
            raise RecordTooLarge
        self._topics -= {record.topic}
        if link is self._link:
            self._link = self._connect()
            link.retire()
        raise KafkaUnavailable(error.name())

    def _connect(self) -> "_Link":
        return _Link(raw_producer(self._settings, self._timeout, linger_ms=2))


class _Link:
    """A producer and the task that polls it."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self._busy = asyncio.Event()
        self._retired = False
        self._polling = asyncio.create_task(self._poll())

    async def acknowledged(self, record: ProducerRecord, within: float) -> KafkaError | None:
        """The broker's answer: None for "written", else the error; an error too where it says nothing ``within`` s.

        Raises BufferError where the local queue is full.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[KafkaError | None] = loop.create_future()

        def report(error: KafkaError | None, message: Message | None = None) -> None:
            if not outcome.done():  # it is, where the sender has gone
                outcome.set_result(delivery_error(error, message))

        def give_up() -> None:
            self.producer.poll(0)  # after a pause of the whole process, the answer lies ready
            report(KafkaError(KafkaError._TIMED_OUT))

        try:
            produce(self.producer, record, report)
        except KafkaException as error:
            refused: KafkaError = error.args[0]
            return refused
        self._busy.set()
        silence = loop.call_later(within, give_up)
        try:
            return await outcome
        finally:
            silence.cancel()

    def retire(self) -> None:
        """Nothing more will be given to it: its task ends when everything it holds is decided."""
        self._retired = True
        self._busy.set()

    async def close(self, within: float) -> int:
        """Wait for what it holds, ``within`` seconds at most, and give the rest up; how many records that were."""
        self.retire()
        await asyncio.wait([self._polling], timeout=within)
        if left := len(self.producer):
            self.producer.purge()
        await self._polling
        return left

    async def _poll(self) -> None:
        while True:
            self.producer.poll(0)
            if len(self.producer):
                await asyncio.sleep(POLL_SECONDS)
            elif self._retired:
                return
            else:
                self._busy.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._busy.wait()


def _note(error: KafkaError) -> None:
    """librdkafka's errors that belong to no record (brokers away, credentials refused): it retries by itself."""
    log.warning("kafka", error=error.name(), reason=error.str(), fatal=error.fatal())
