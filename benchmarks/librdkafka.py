"""librdkafka alone, without Faust: a Consumer's batches in, the prepared bytes out, a barrier, a commit.

The same rules of delivery as the worker's (idempotent producer, acks=all, every record's report awaited before the
commit), one thread of Python around the C library.
"""

import signal
from types import FrameType

from confluent_kafka import Consumer, KafkaError, Message, Producer

from benchmarks.prepared import Prepared
from fhirline.config.settings import load_settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.clients import librdkafka, producer_config
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.records import produce
from fhirline.topics.declared import raw_topic


def main() -> None:
    settings = load_settings()
    prepared = Prepared(settings)
    stopping = failed = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    def delivered(error: KafkaError | None, message: Message) -> None:
        nonlocal failed
        failed |= delivery_error(error, message) is not None

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        librdkafka(
            settings,
            **{"group.id": settings.group, "auto.offset.reset": "earliest", "enable.auto.commit": False},
            **{"session.timeout.ms": int(settings.session_timeout * 1000)},
        )
    )
    queue = {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_048_576}
    producer = Producer(producer_config(settings, **{"linger.ms": 2, **queue}))
    consumer.subscribe([raw_topic(vendor) for vendor in VENDORS])
    while not stopping:
        messages = consumer.consume(settings.batch_size, settings.batch_within)
        for message in messages:
            if message.error() is not None:
                raise SystemExit(f"cannot read: {message.error()}")
            for record in prepared(message.topic() or ""):
                produce(producer, record, delivered)
        if messages:
            left = producer.flush(settings.delivery_timeout)
            if failed or left:
                raise SystemExit("a record was not acknowledged")
            consumer.commit(asynchronous=True)
    consumer.close()


if __name__ == "__main__":
    main()
