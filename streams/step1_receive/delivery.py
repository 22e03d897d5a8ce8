"""Send raw records to Kafka, and before each the data key that seals it, where Kafka does not have the key yet.

librdkafka calls back where it is polled, which is on the event loop. A thread would have to wait for the interpreter,
and to wake the loop, for each record. The callback for a data key's report sends the record that the key seals: to wake
the request's task in between would cost as much again.

All that comes in one turn of the event loop is encrypted and handed over together. Between other work each step of it
takes longer, because the processor's caches hold other data by then (benchmarks/NOTES.md).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fhirline.streams.kafka.delivery_report import delivery_error, take_reports
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.records import ProducerRecord, produce
from fhirline.streams.step1_receive.patient_keys import NewKey, Patient, PatientKeys, patient_of

POLL_SECONDS = 0.001
"""Interval between polls while records are in flight."""
IDLE_SECONDS = 0.1
"""Interval between polls while none are."""


class Link:
    """A producer, the task that polls it, and the deliveries that wait for its reports."""

    def __init__(self, producer: Producer, within: float) -> None:
        """Make the link of a producer. ``within``: seconds of silence after which a record counts as not written."""
        self.producer = producer
        self._within = within
        self._loop = asyncio.get_running_loop()
        self._put: list[Delivery] = []
        self._waiting: dict[Delivery, float] = {}
        """Delivery → when it is given up, the first one first: all wait equally long."""
        self._busy = asyncio.Event()
        self._retired = False
        # Without the context of the request that made it: librdkafka's lines would carry that request's event key.
        self._polling = asyncio.create_task(self._poll(), context=Context())

    def put(self, delivery: "Delivery") -> None:
        """Hand a delivery over with all others of this turn of the event loop."""
        if not self._put:
            self._loop.call_soon(self._hand_over, context=Context())
            self._busy.set()
        self._put.append(delivery)

    def drop(self, delivery: "Delivery") -> None:
        """Stop waiting for the report of a delivery."""
        self._waiting.pop(delivery, None)

    def retire(self) -> None:
        """Accept no more records. The task ends once all records are reported."""
        self._retired = True
        self._busy.set()

    async def close(self, within: float) -> int:
        """Wait at most ``within`` seconds for the records in flight and drop the rest; return their number."""
        self.retire()
        await asyncio.wait([self._polling], timeout=within)
        if left := len(self.producer):
            self.producer.purge()
        await self._polling
        return left

    def _hand_over(self) -> None:
        put = [delivery for delivery in self._put if not delivery.outcome.done()]  # a cancelled sender has ended it
        self._put.clear()
        until = monotonic() + self._within
        for delivery in put:
            self._waiting[delivery] = until
            delivery.find_key()
        for delivery in put:
            delivery.hand_over_key()
        for delivery in put:
            delivery.hand_over()

    async def _poll(self) -> None:
        while True:
            take_reports(self.producer)
            if self._waiting:
                self._give_up()
            if self._put or self._waiting or len(self.producer):
                await asyncio.sleep(POLL_SECONDS)
            elif self._retired:
                return
            else:
                self._busy.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._busy.wait()

    def _give_up(self) -> None:
        """End deliveries that have waited too long.

        Reports that came during a pause of the process have been taken before.
        """
        now = monotonic()
        while self._waiting:
            delivery, until = next(iter(self._waiting.items()))
            if until > now:
                return
            delivery.on_report(KafkaError(KafkaError._TIMED_OUT))


class Delivery:
    """A record whose sender waits for ``outcome``: None once Kafka has it, else the error.

    ``outcome`` raises BufferError where the local queue is full; _TIMED_OUT is Kafka's silence.
    """

    __slots__ = ("_current", "_key", "_keys", "_new", "_partitions", "_patient", "_record", "link", "outcome", "topic")

    def __init__(self, record: ProducerRecord, current: Callable[[], Link]) -> None:
        """Make the delivery of a record, which is not sent yet.

        ``current`` returns the link for the record itself, as the data key's link may have failed meanwhile.
        """
        self._record = record
        self._current = current
        self._keys: PatientKeys | None = None
        self._partitions = 0
        self._patient: Patient | None = None
        self._key: DataKey | None = None
        self._new: NewKey | None = None
        """The data key that is on its way."""
        self.topic = record.topic
        self.outcome: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

    def use_keys(self, keys: PatientKeys, partitions: int) -> None:
        """Require that the record is sealed, with a new data key where the patient has none.

        ``partitions``: the number of partitions of the record's topic.
        """
        self._keys, self._partitions = keys, partitions

    def begin(self) -> None:
        self.link = self._current()
        self.link.put(self)

    def end(self) -> None:
        """Stop waiting for the report. A cancelled sender has ended ``outcome``."""
        self.link.drop(self)

    def find_key(self) -> None:
        """Look for the patient's data key, where the record is to be sealed."""
        if self._keys is not None and self._patient is None:
            self._patient = patient_of(self._record, self._partitions)
            self._key = self._keys.known(self._patient)

    def hand_over_key(self) -> None:
        """Hand over a new data key, where the record needs one."""
        if self._keys is not None and self._key is None:
            self._produce(self._keys)

    def hand_over(self) -> None:
        """Hand over the record, unless it has to wait for its data key."""
        if self._keys is None or self._key is not None:
            self._produce(None)

    def _produce(self, keys: PatientKeys | None) -> None:
        """Hand over the record, or with ``keys`` its data key. An error is raised to its sender, not to the caller."""
        record, partition = self._record, None
        try:
            if self._patient is not None:
                partition = self._patient.partition
                if keys is not None:
                    self._new = keys.new(self._patient)
                    record = self._new.record
            self.topic = record.topic
            produce(self.link.producer, record, self.on_report, self._key, partition)
        except KafkaException as error:
            self.outcome.set_result(error.args[0])
        except Exception as error:  # noqa: BLE001  # raised where the sender waits
            self.outcome.set_exception(error)

    def on_report(self, error: KafkaError | None, message: Message | None = None) -> None:
        """Process librdkafka's report on the data key or record that was handed over last."""
        self.link.drop(self)
        error = delivery_error(error, message)
        new, self._new = self._new, None
        if new is not None and error is None and self._keys is not None:
            self._keys.keep(new)
            self._key = new.key
            if not self.outcome.done():
                self.begin()
        elif not self.outcome.done():
            self.outcome.set_result(error)
