"""The watch of whether Kafka answers ends before its process does. Outages: tests/streams/observe/test_outage.py."""

import threading
from itertools import pairwise

import pytest
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


def test_an_outage_that_lasts_is_told_again_and_no_more_often_than_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kafka is asked every second or two, and a line about it is written at most every three."""
    monkeypatch.setattr("fhirline.streams.kafka.watch.ANSWER_SECONDS", 0.3)
    interval, bootstrap = 3.0, f"127.0.0.1:{free_port()}"
    with capture_logs() as lines:
        watch = KafkaWatch(settings_for(bootstrap), remind_seconds=interval)
        watch.start()
        try:

            def reminders() -> list[float]:
                return [line["seconds"] for line in lines if line["event"] == "kafka still away"]

            wait_until(lambda: len(reminders()) >= 2, lambda: f"no two lines about the outage: {lines}")
        finally:
            watch.stop()
    told = reminders()
    assert [line["event"] for line in lines] == ["kafka away", *["kafka still away"] * len(told)]
    assert all(later - earlier >= interval - 0.1 for earlier, later in pairwise([0.0, *told])), told
    assert {line["bootstrap"] for line in lines} == {bootstrap}
    assert all(line["reason"] for line in lines)
