"""Partitions count as read to their ends only while Kafka says so, and their lag can be asked for at any time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.records import Lag, TopicPartition
from fhirline.streams.tables import source
from fhirline.streams.tables.source import Reader
from fhirline.topics.declared import OUTCOME
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.tables import published, write
from tests.support.waiting import LIMIT, wait_until

pytestmark = pytest.mark.long


def test_nothing_is_complete_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that cannot fetch hears of no tombstones either, and has not reached an end that Kafka has moved."""
    monkeypatch.setattr(source, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(source, "ASK_TIMEOUT", 1.0)
    with ExitStack() as running:
        broker = running.enter_context(EmbeddedBroker())
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap)
        records = published(settings)[:50]
        write(settings, records)
        reader = Reader(settings)
        running.callback(reader.close)
        written = TopicPartition(records[0].topic, records[0].partition or 0)
        reader.start({written: None, TopicPartition(OUTCOME, 0): None})

        def complete() -> dict[TopicPartition, float] | None:
            reader.read(1000, 1_000_000, 0.0)
            return reader.complete_at() if reader.at_end else None

        wait_until(lambda: complete() is not None, "never complete")
        first, second = reader.complete_at(), reader.complete_at()
        assert first is not None
        assert second is not None
        assert all(second[place] > first[place] for place in first)
        write(settings, records[:1])
        third = reader.complete_at()
        assert third is not None
        assert {place for place in second if third[place] == second[place]} == {written}
        wait_until(lambda: complete() is not None, "never complete again")
        broker.stop()
        assert reader.complete_at() is None


def test_a_batch_that_is_read_until_the_ends_waits_for_nothing_behind_them() -> None:
    """An hour for the batch to fill would end this test at its limit."""
    with EmbeddedBroker() as broker, ExitStack() as running:
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap)
        [record] = published(settings)[:1]
        write(settings, [record])
        reader = Reader(settings)
        running.callback(reader.close)
        reader.start({TopicPartition(record.topic, record.partition or 0): None, TopicPartition(OUTCOME, 0): None})
        read: list[bytes | None] = []

        def has_read() -> bool:
            read.extend(item.key for item in reader.read(9, 1_000_000, 3600.0, until_end=True))
            return bool(read)

        wait_until(has_read, "nothing was read")
        assert read == [record.key]
        assert reader.at_end


def test_the_lag_is_told_while_another_thread_reads() -> None:
    """The endpoint of the metrics asks on a thread of its own, while the tables do nothing but wait for records."""
    with EmbeddedBroker() as broker, ThreadPoolExecutor(2) as threads:
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap)
        [record] = published(settings)[:1]
        write(settings, [record])
        place = TopicPartition(record.topic, record.partition or 0)
        reader, ended, waits = Reader(settings), threading.Event(), threading.Event()
        reader.start({place: None})

        def read() -> None:
            while not ended.is_set():
                reader.read(1000, 1_000_000, 0.0)
                if reader.at_end:
                    waits.set()

        reading = threads.submit(read)
        try:
            assert waits.wait(LIMIT)
            told = [threads.submit(reader.lags).result(LIMIT) for _ in range(10)]
        finally:
            ended.set()
            reading.result(LIMIT)
            reader.close()
        assert told == [[Lag(*place, 0)]] * 10
