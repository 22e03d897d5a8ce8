"""The barrier: everything that follows from a batch is acknowledged by Kafka, or the process ends.

An offset may be committed once every record that follows from its event (resources, Bundle, outcome, dead letter,
state) has been acknowledged by all in-sync replicas. Until then the raw record is the only copy, and not committing is
what keeps it: after a restart the batch is read again and, mapping being pure, the same bytes go out under the same
keys. So a failed barrier loses nothing as long as nobody commits, and the surest way not to commit is to end
(engine.md, rules 2 to 4).
"""

from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from config.settings import Settings
from streams.kafka import producer_config
from streams.records import OutRecord

_TOO_LARGE_CODES = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

ANY_PARTITION = -1
"""librdkafka's RD_KAFKA_PARTITION_UA: the partitioner chooses by the key."""

FLUSH_GRACE = 2.0
"""Seconds beyond the delivery timeout in which librdkafka must have said what became of a record."""

SESSION_SHARE = 0.9
"""Of the session timeout: how long a record may wait at most. Heartbeats come every tenth (step2)."""

Delivered = Callable[[OutRecord, int], None]
"""Called with a record and its offset when Kafka has acknowledged it."""


class DeliveryFailed(Exception):
    """Something could not be delivered for good. The message names topics and librdkafka's error, no payload."""


class Deliverer:
    """librdkafka's idempotent producer, used batch by batch."""

    def __init__(self, settings: Settings) -> None:
        # When a paused process continues, librdkafka's own threads may send what they hold before any line of ours
        # runs: it must have expired by then. The group puts a member out one session after its last heartbeat, which
        # was at most a tenth of one before the pause; a record that waits no longer than the rest is never sent after.
        self._timeout = min(settings.delivery_timeout, settings.session_timeout * SESSION_SHARE)
        self._producer = Producer(
            producer_config(
                settings,
                **{
                    "delivery.timeout.ms": int(self._timeout * 1000),
                    "linger.ms": 2,  # a batch is awaited: a longer linger only adds latency
                    "queue.buffering.max.messages": 1_000_000,
                    "queue.buffering.max.kbytes": 1_048_576,
                },
            )
        )

    def deliver(self, records: Iterable[OutRecord], delivered: Delivered | None = None) -> Sequence[OutRecord]:
        """Write the records and wait for every acknowledgement; blocking, for a thread.

        Returns the records that are too large for Kafka, which the caller must dead-letter in the same barrier.
        Raises DeliveryFailed where any other record was not acknowledged.
        """
        failed: list[str] = []
        too_large: list[OutRecord] = []
        reported = 0

        def produce(record: OutRecord) -> None:
            nonlocal reported

            def report(error: KafkaError | None, message: Message) -> None:
                nonlocal reported
                reported += 1
                if error is None:
                    if delivered is not None:
                        delivered(record, message.offset() or 0)
                elif error.code() in _TOO_LARGE_CODES:
                    too_large.append(record)
                else:
                    failed.append(f"{record.topic}: {error.name()}")

            partition = ANY_PARTITION if record.partition is None else record.partition
            while True:
                try:
                    self._producer.produce(
                        record.topic,
                        record.value,
                        record.key,
                        partition,
                        on_delivery=report,
                        headers=record.headers,  # type: ignore[arg-type]  # a list is invariant in its items
                    )
                except BufferError:
                    self._producer.poll(0.1)  # waits for room: delivery reports free it
                    if failed:
                        return
                except KafkaException as error:
                    if error.args[0].code() not in _TOO_LARGE_CODES:
                        raise DeliveryFailed(f"{record.topic}: {error.args[0].name()}") from None
                    too_large.append(record)
                    reported += 1
                    return
                else:
                    return

        expected = 0
        for record in records:
            produce(record)
            expected += 1
        self._producer.flush(self._timeout + FLUSH_GRACE)
        if failed:
            raise DeliveryFailed("; ".join(sorted(set(failed))[:5]))
        if reported != expected:  # that flush has returned is not enough: each record must have been reported
            raise DeliveryFailed(f"{expected - reported} records unacknowledged after {self._timeout:g} s")
        return too_large
