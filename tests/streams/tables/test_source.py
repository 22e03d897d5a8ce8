"""Partitions count as read to their ends only while Kafka says so."""

from contextlib import ExitStack

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables import source
from fhirline.streams.tables.source import Reader
from fhirline.topics.declared import OUTCOME
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.tables import published, write
from tests.support.waiting import wait_until

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
