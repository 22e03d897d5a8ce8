"""Reading in a consumer group, on a real broker, and what of it may be committed."""

import asyncio
from uuid import uuid4

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka import group_reader
from fhirline.streams.kafka.group_reader import Assignment, Reader
from fhirline.streams.kafka.records import Lag
from fhirline.topics.declared import BUNDLE
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT, wait_until


def test_the_lag_is_told_while_the_consumer_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape of the metrics asks on the event loop, which must not stand still until a poll is over."""
    monkeypatch.setattr(group_reader, "POLL_SECONDS", 2 * LIMIT)
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, partitions=1)
        settings = settings_for(broker.bootstrap, partitions=1, session_timeout=6.0)
        producer = patient_producer(settings)

        async def told() -> tuple[list[Lag], list[Lag]]:
            reader = Reader(settings, "deliver", BUNDLE, uuid4().hex, "test", lambda _: None)
            polling = asyncio.create_task(reader.read(1))
            try:
                async with asyncio.timeout(LIMIT):
                    # The poll that waits for a record now has joined.
                    await asyncio.to_thread(wait_until, lambda: reader.joined, "no partition was assigned")
                    before = await asyncio.to_thread(reader.lags)
            finally:
                producer.produce(BUNDLE, b"{}", b"Bundle/1", 0)
                producer.flush()  # ends the poll
                [(assignment, message)] = await polling
            assignment.begin(message.offset() or 0)
            after = reader.lags()
            await reader.close()
            return before, after

        assert asyncio.run(told()) == ([], [Lag(BUNDLE, 0, 1)])


def test_only_a_contiguous_prefix_is_committed() -> None:
    assignment = Assignment("raw.infermedica", 0)
    for offset in (3, 5, 6, 9):
        assignment.begin(offset)
    assert assignment.to_commit() is None
    assignment.finish(5)
    assignment.finish(9)
    assert assignment.committable is None, "3 is not finished"
    assignment.finish(3)
    assert assignment.committable == 6
    assignment.finish(6)
    assert assignment.committable == 10
    assignment.committed = 10
    assert assignment.to_commit() is None
