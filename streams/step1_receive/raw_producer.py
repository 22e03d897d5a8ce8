"""Write raw records, with one awaited acknowledgement each: the gateway answers 202 only when Kafka has the event."""

import asyncio
from collections.abc import Mapping
from contextvars import Context
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import log_error, new_client, producer_config
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.delivery import Delivery, Link
from fhirline.streams.step1_receive.patient_keys import PatientKeys
from fhirline.topics.declared import KEYS

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing

log = structlog.get_logger()

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
METADATA_TIMEOUT = 3.0
GRACE = 2.0
"""Seconds beyond the delivery timeout within which librdkafka must have reported on a record."""
QUEUE_KBYTES = 262_144
"""Limit of the records that wait for Kafka. Beyond it, webhooks are answered 503, to be sent again."""


class KafkaUnavailable(FhirlineError):
    """Kafka did not acknowledge a record. The message is librdkafka's name of the error."""


class RecordTooLarge(FhirlineError):
    """Kafka takes no record of this size."""


def raw_producer(settings: Settings, delivery_timeout: float, linger_ms: int) -> Producer:
    """Create librdkafka's idempotent producer for raw topics. Its log lines go to our log."""
    return new_client(
        Producer,
        producer_config(
            settings,
            **{
                "delivery.timeout.ms": int(delivery_timeout * 1000),
                "linger.ms": linger_ms,
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "client.id": "fhirline-receive",
                "error_cb": log_error,
            },
        ),
    )


def existing_topics(producer: Producer, timeout: float = METADATA_TIMEOUT) -> Mapping[str, int]:
    """Return all topics of the cluster, with their numbers of partitions. Raises KafkaUnavailable.

    A request that named one topic could make a broker create it, with its own defaults.
    """
    try:
        found = producer.list_topics(timeout=timeout).topics
        return {name: len(topic.partitions) for name, topic in found.items()}
    except KafkaException as error:
        raise KafkaUnavailable(error.args[0].name()) from None


class RawProducer:
    """Sends raw records from an event loop; `stop` closes it.

    An idempotent producer that has failed may never work again (fatal errors, a broker that has forgotten its id). The
    next record goes through a new producer. The failed one is kept until all its records are reported.
    """

    def __init__(self, settings: Settings, tracing: "Tracing | None" = None) -> None:
        self._settings = settings
        self._tracing = tracing
        self._timeout = settings.gateway_delivery_timeout
        self._topics: Mapping[str, int] = {}
        self._asking: asyncio.Task[Mapping[str, int]] | None = None
        self._keys = PatientKeys.of(settings)
        self._link = self._connect()

    async def stop(self) -> int:
        """Wait for the records in flight; return how many stay unacknowledged."""
        return await self._link.close(self._timeout)

    async def topics(self) -> Mapping[str, int]:
        """Return the existing topics with their numbers of partitions. Raises KafkaUnavailable in `METADATA_TIMEOUT`.

        All callers share one request. During an outage, one after the other would wait for minutes.
        """
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), context=Context())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Mapping[str, int]:
        try:
            self._topics = await asyncio.to_thread(existing_topics, self._link.producer)
            return self._topics
        finally:
            self._asking = None

    async def send(self, record: ProducerRecord) -> None:
        """Write a record and wait until all in-sync replicas have it. Raises KafkaUnavailable or RecordTooLarge.

        With encryption on, a raw record is sealed. A dead letter is sealed if its raw record was.
        """
        if self._tracing is None:
            return await self._send(record)
        with self._tracing.sending(record) as traced:
            await self._send(traced)

    async def _partitions(self, topic: str) -> int:
        """Return the number of a topic's partitions. Raises KafkaUnavailable where it does not exist."""
        found = self._topics.get(topic) or (await self.topics()).get(topic)
        if not found:
            log.error("topic missing", topic=topic, remedy="fhirline topics apply")
            raise KafkaUnavailable("topic missing")
        return found

    async def _send(self, record: ProducerRecord) -> None:
        partitions = self._topics.get(record.topic) or await self._partitions(record.topic)
        delivery = Delivery(record, self._current)
        if self._keys is not None and record.data_key is None and record.topic.startswith("raw."):
            if KEYS not in self._topics:
                await self._partitions(KEYS)
            delivery.use_keys(self._keys, partitions)
        delivery.begin()
        try:
            error = await delivery.outcome
        except BufferError:
            raise KafkaUnavailable("_QUEUE_FULL") from None
        finally:
            delivery.end()
        if error is None:
            return
        if error.code() in TOO_LARGE:
            raise RecordTooLarge
        self._topics = {topic: number for topic, number in self._topics.items() if topic != delivery.topic}
        if delivery.link is self._link:
            self._link = self._connect()
            delivery.link.retire()
        raise KafkaUnavailable(error.name())

    def _current(self) -> Link:
        return self._link

    def _connect(self) -> Link:
        return Link(raw_producer(self._settings, self._timeout, linger_ms=2), self._timeout + GRACE)
