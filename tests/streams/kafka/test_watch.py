"""The watch of whether Kafka answers ends before its process does. Outages: tests/streams/observe/test_outage.py."""

import threading

from structlog.testing import capture_logs

from fhirline.streams.demo.embedded_broker import EmbeddedBroker, free_port
from fhirline.streams.kafka.watch import KafkaWatch
from tests.support.kafka.brokers import settings_for
from tests.support.waiting import wait_until


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


def test_an_outage_that_lasts_is_told_again_and_no_more_often_than_the_interval() -> None:
    """Kafka is asked every second, and a line about it is written every three."""
    interval = 3.0
    with EmbeddedBroker() as broker, capture_logs() as lines:
        watch = KafkaWatch(settings_for(broker.bootstrap), remind_seconds=interval)
        watch.start()
        try:
            assert not watch.problems()
            broker.stop()

            def reminders() -> list[float]:
                return [line["seconds"] for line in lines if line["event"] == "kafka still away"]

            wait_until(lambda: len(reminders()) >= 3, lambda: f"no three lines about the outage: {lines}")
        finally:
            watch.stop()
    told = reminders()
    events = [line["event"] for line in lines]
    assert events == ["kafka away", *["kafka still away"] * len(told)]
    assert all(later - earlier >= interval - 0.1 for earlier, later in zip([0.0, *told], told, strict=False)), told
    assert {line["bootstrap"] for line in lines} == {broker.bootstrap}
    assert all(line["reason"] for line in lines)
