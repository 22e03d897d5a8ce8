"""A worker in the test's own process, whose consumer loses records on purpose: they are mapped all the same."""

import asyncio
import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import faust
import pytest
import structlog

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step2_consume import app, batch, fencing
from fhirline.streams.step2_consume.app import Worker
from fhirline.streams.step2_consume.endpoint import WorkerEndpoint
from fhirline.streams.step2_consume.faust.offsets import Fetched, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from tests.crash.comparison import compare, raw_records, wait_drained
from tests.streams.step2_consume.faust.logs import commit, unstarted
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.waiting import LIMIT
from tests.support.workload import events, produce

VENDOR = "mediquo"
Lost = Callable[[TopicPartition, int, Mapping[TopicPartition, int]], bool]
"""Whether the record at an offset is lost. ``last``: the last offset of each partition."""

LOST: dict[str, Lost] = {
    "first": lambda partition, offset, last: offset == 0,
    "between": lambda partition, offset, last: offset in (2, 3),
    "last": lambda partition, offset, last: partition in last and offset >= last[partition] - 1,
    "between and last": lambda partition, offset, last: (
        LOST["between"](partition, offset, last) or LOST["last"](partition, offset, last)
    ),
    "all": lambda partition, offset, last: True,
}


class Ends:
    """Collects the reasons for which the worker would have ended the process."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.first = threading.Event()

    def exit_uncommitted(self, reason: str, **details: Any) -> None:
        self.reasons.append(f"{reason} {details}")
        self.first.set()
        if threading.current_thread() is threading.main_thread():
            raise asyncio.CancelledError  # ends the task, and leaves the app to the test


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    made = Ends()
    for module in (batch, fencing, app):
        monkeypatch.setattr(module, "exit_uncommitted", made.exit_uncommitted)
    monkeypatch.setattr(app, "STALL_CHECK_SECONDS", 0.5)
    return made


class Losing:
    """Removes each record that is to be lost from the fetched records, once. ``last`` has the raw partitions only."""

    def __init__(self, lost: Lost, last: Mapping[TopicPartition, int]) -> None:
        self.lost: set[tuple[TopicPartition, int]] = set()
        self._is_lost, self._last = lost, last

    def left(self, fetched: Mapping[Any, Sequence[Any]] | None) -> dict[Any, list[Any]]:
        return {
            tp: [record for record in records if not self._loses(record)] for tp, records in (fetched or {}).items()
        }

    def _loses(self, record: Any) -> bool:
        partition, offset = TopicPartition(record.topic, record.partition), record.offset
        if (partition, offset) in self.lost or not self._is_lost(partition, offset, self._last):
            return False
        self.lost.add((partition, offset))
        return True


@pytest.mark.long
@pytest.mark.parametrize("what", LOST)
def test_what_faust_loses_is_mapped(what: str, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap, session_timeout=30)
        raws = produce(settings, (event for event in events(400, seed=3) if event.topic == f"raw.{VENDOR}"))
        last = {raw.topic_partition: raw.offset for raw in raws}
        losing = Losing(LOST[what], last)
        get = WorkerConsumer._getmany

        async def getmany(consumer: WorkerConsumer, **asked: Any) -> dict[Any, list[Any]]:
            return losing.left(await get(consumer, **asked))

        monkeypatch.setattr(WorkerConsumer, "_getmany", getmany)
        asyncio.run(_run_until_mapped(settings))
        gc.collect()  # the app's producer ends before its broker does
        # What was acknowledged must lie there: else the comparison, which reads it again, would hide its loss.
        written = sorted(raw.position for raw in raws)
        assert written == sorted(raw.position for raw in raw_records(settings))
        comparison = compare(settings)
        assert not ends.reasons
        assert comparison.whole, comparison
        lost = sum(LOST[what](partition, offset, last) for partition in last for offset in range(last[partition] + 1))
        assert sum(partition in last for partition, _ in losing.lost) == lost > 0


async def _run_until_mapped(settings: Settings) -> None:
    app = Worker(settings, build_normalizer(settings), [VENDOR], WorkerEndpoint(settings)).app
    await app.start()
    try:
        await asyncio.to_thread(wait_drained, settings)
    finally:
        await app.stop()


@pytest.mark.long
def test_a_log_that_ends_before_the_committed_offset_ends_the_worker(ends: Ends) -> None:
    """Faust would drop every record until the log is as long as it was, without a log line."""
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap, session_timeout=30)
        raws = produce(settings, (event for event in events(100, seed=3) if event.topic == f"raw.{VENDOR}"))
        commit(settings, replace(raws[-1], offset=raws[-1].offset + 1_000))

        async def run_until_it_ends() -> None:
            app = Worker(settings, build_normalizer(settings), [VENDOR], WorkerEndpoint(settings)).app
            await app.start()
            try:
                assert await asyncio.to_thread(ends.first.wait, LIMIT)
            finally:
                await app.stop()

        asyncio.run(run_until_it_ends())
        gc.collect()
    assert ends.reasons[0].startswith("the log ends before what is committed")
    assert f"{raws[-1].topic}/{raws[-1].partition} before {raws[-1].offset + 1_000}" in ends.reasons[0]


def test_a_failed_check_for_stalled_partitions_is_logged_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for("127.0.0.1:1", session_timeout=3.0)
    app = faust.App("reading-on", broker="aiokafka://127.0.0.1:1", web_enabled=False)

    async def fetched(_: object) -> dict[TopicPartition, Fetched]:
        return {}

    async def look() -> None:
        positions = Positions(settings)
        positions.on_assigned([TopicPartition(f"raw.{VENDOR}", 0)])  # where it begins cannot be asked
        transport = WorkerTransport(app.conf.broker_consumer, app, positions)
        consumer = unstarted(transport)
        monkeypatch.setattr(type(consumer._thread), "fetched", fetched)
        await consumer.resume_stalled()

    with structlog.testing.capture_logs() as lines:
        asyncio.run(look())
    assert [line["event"] for line in lines] == ["partitions could not be looked at"]
