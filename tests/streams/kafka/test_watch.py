"""The watch of whether Kafka answers ends before its process does. Outages: tests/streams/observe/test_outage.py."""

import threading

from fhirline.streams.demo.embedded_broker import EmbeddedBroker, free_port
from fhirline.streams.kafka.watch import KafkaWatch
from tests.support.kafka.brokers import settings_for


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kafka-watch"]


def test_no_question_is_left_when_the_watch_stops() -> None:
    """An answer of librdkafka that comes while the interpreter ends crashes it (2.5 % of refused starts did)."""
    with EmbeddedBroker() as broker:
        for bootstrap in (broker.bootstrap, f"127.0.0.1:{free_port()}"):
            watch = KafkaWatch(settings_for(bootstrap))
            watch.start()
            assert threads()
            watch.stop()
            assert not threads()


def test_a_watch_that_never_began_can_be_stopped() -> None:
    KafkaWatch(settings_for("127.0.0.1:1")).stop()
