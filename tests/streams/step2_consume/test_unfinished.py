"""An event over which the worker dies becomes a dead letter, and the events behind it are mapped."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step2_consume.faust.offset_gaps import Committed
from fhirline.streams.step2_consume.unfinished import ATTEMPTS, CAREFUL, Mark, Unfinished
from fhirline.streams.step4_normalize.map_event import given_up
from fhirline.topics.declared import dead_letter_topic
from tests.support.deadly_worker import DEADLY, DEATHS
from tests.support.kafka.brokers import RunningBroker
from tests.support.memory import can_limit_memory, limited
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed

NOTHING = {"missing": 0, "differing": 0, "unexpected": 0}


def poisoned(settings: Settings) -> tuple[list[ConsumerRecord], ConsumerRecord]:
    """Write MediQuo's events, of which one is deadly. Return all of them, and that one."""
    records = [event for event in events(120, seed=11) if event.topic == "raw.mediquo"]
    middle = len(records) // 2
    body = orjson.loads(records[middle].value or b"")
    records[middle] = replace(records[middle], value=orjson.dumps({**body, "note": DEADLY}))
    raws = produce(settings, records)
    return raws, next(raw for raw in raws if DEADLY.encode() in (raw.value or b""))


def start(death: str, settings: Settings, output: Path, within: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_GROUP": settings.group,
        "FHIRLINE_SESSION_TIMEOUT": f"{settings.session_timeout:g}",
        "FHIRLINE_LOG_FORMAT": "json",
        "FHIRLINE_METRICS_PORT": "0",
    }
    with output.open("ab") as file:
        return subprocess.Popen(
            [*within, sys.executable, "-m", "tests.support.deadly_worker", death],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.long
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)  # the embedded broker keeps no metadata of offsets
@pytest.mark.parametrize("death", DEATHS)
def test_an_event_that_ends_its_worker_is_given_up(death: str, own_broker: RunningBroker, tmp_path: Path) -> None:
    gives_up(death, own_broker, tmp_path)


@pytest.mark.long
@pytest.mark.skipif(not can_limit_memory(), reason="no control group of memory (version 1) can be made")
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
def test_an_event_that_fills_a_container_of_1_gib_is_given_up(own_broker: RunningBroker, tmp_path: Path) -> None:
    with limited(mebibytes=1_024) as within:
        statuses = gives_up("fills the container", own_broker, tmp_path, within)
    assert set(statuses) == {-signal.SIGKILL}, "the kernel has ended each worker"


def gives_up(death: str, broker: RunningBroker, folder: Path, within: Sequence[str] = ()) -> list[int]:
    """Run workers one after another until all but the deadly event is mapped; return the statuses of those that died.

    The deadly event is a dead letter ``worker-ended``, and its partition goes on.
    """
    settings = broker.settings(session_timeout=6)
    raws, deadly = poisoned(settings)
    expected = undisturbed(settings, [raw for raw in raws if raw.position != deadly.position])
    output, store = folder / "output", Store(settings)
    statuses: list[int] = []
    worker = start(death, settings, output, within)
    try:
        end = time.monotonic() + LIMIT
        while store.differences(expected) != NOTHING:
            assert time.monotonic() < end, output.read_text()[-3000:]
            if (status := worker.poll()) is not None:  # its supervisor starts it again
                statuses.append(status)
                worker = start(death, settings, output, within)
            store.read()
    finally:
        worker.kill()
        worker.wait()
        store.close()
    assert ATTEMPTS < len(statuses) <= 3 * ATTEMPTS, output.read_text()[-3000:]
    partitions = {TopicPartition(dead_letter_topic("mediquo"), item): None for item in range(settings.partitions)}
    with Scanner(settings) as scanner:
        letters = [from_confluent(message) for message in scanner.read(partitions)]
    [letter] = [item for item in letters if header(item.headers, "error-code") == "worker-ended"]
    assert header(letter.headers, "raw") == str(deadly.position)
    assert letter.value is None
    return statuses


class Log:
    """The group's committed offset of one partition, as Kafka keeps it."""

    def __init__(self, offset: int, metadata: str = "") -> None:
        self.committed = Committed(offset, metadata)
        self.commits: list[Committed] = []

    def assignment(self) -> Unfinished:
        began = self.committed

        async def commit(marked: Mapping[TopicPartition, Committed]) -> None:
            for committed in marked.values():
                self.committed = committed
                self.commits.append(committed)

        return Unfinished(lambda partition: began if partition == PARTITION else None, commit)


PARTITION = TopicPartition("raw.mediquo", 0)


def record(offset: int, partition: int = 0) -> ConsumerRecord:
    return ConsumerRecord("raw.mediquo", partition, offset, 0, b"key", b"{}", [])


async def attempted(unfinished: Unfinished, *records: ConsumerRecord) -> list[bool]:
    """Tell of each part of a batch whether it is given up."""
    found = []
    for part in unfinished.parts(records):
        async with unfinished.attempt(part) as give_up:
            found.append(give_up)
    return found


async def died(unfinished: Unfinished, *records: ConsumerRecord) -> None:
    """Begin the batch's first part, and end before it is mapped."""
    with pytest.raises(SystemExit):
        async with unfinished.attempt(next(unfinished.parts(records))):
            raise SystemExit


def test_a_batch_without_a_mark_is_mapped_at_once_and_marked_once() -> None:
    log = Log(5)
    unfinished = log.assignment()
    assert asyncio.run(attempted(unfinished, record(5), record(6))) == [False]
    assert asyncio.run(attempted(unfinished, record(7))) == [False]
    assert [(commit.offset, Mark.read(commit.metadata)) for commit in log.commits] == [(5, Mark(0))]


def test_the_event_that_ends_three_processes_is_given_up_and_no_other() -> None:
    log = Log(5)
    asyncio.run(died(log.assignment(), record(5), record(6)))
    for attempts in (1, 2, 3):
        unfinished = log.assignment()
        if attempts == 1:  # the event before it is mapped; its offset is committed with the attempt at the next one
            assert asyncio.run(attempted(unfinished, record(5))) == [False]
        asyncio.run(died(unfinished, record(6)))
        assert (log.committed.offset, Mark.read(log.committed.metadata)) == (6, Mark(attempts))
    assert asyncio.run(attempted(log.assignment(), record(6), record(7))) == [True, False]


def test_an_event_that_was_mapped_has_no_attempt_left() -> None:
    """Its process may end while its records are delivered, as often as Kafka is away."""
    log = Log(5, Mark(0).text)
    for _ in range(ATTEMPTS + 1):
        assert asyncio.run(attempted(log.assignment(), record(5))) == [False]
    assert Mark.read(log.committed.metadata) == Mark(0)


def test_after_enough_events_a_partition_is_mapped_in_batches_again() -> None:
    unfinished = Log(0, Mark(0).text).assignment()
    assert len([*unfinished.parts([record(0), record(1)])]) == 2
    for offset in range(CAREFUL):
        asyncio.run(attempted(unfinished, record(offset)))
    assert len([*unfinished.parts([record(CAREFUL), record(CAREFUL + 1)])]) == 1


def test_no_event_of_a_batch_is_passed_over_where_the_careful_events_end_within_it() -> None:
    unfinished = Log(0, Mark(0).text).assignment()
    for offset in range(CAREFUL - 1):
        asyncio.run(attempted(unfinished, record(offset)))
    last, behind = record(CAREFUL - 1), record(CAREFUL)
    assert len(asyncio.run(attempted(unfinished, last, behind))) == 2


def test_a_revocation_while_an_event_is_mapped_by_itself_is_no_error() -> None:
    unfinished = Log(0, Mark(0).text).assignment()

    async def revoked() -> list[list[int]]:
        begun = []
        for part in unfinished.parts([record(0), record(1)]):
            async with unfinished.attempt(part):
                begun.append([item.offset for item in part])
                unfinished.on_revoked()
        return begun

    assert asyncio.run(revoked()) == [[0], [1]]


def test_a_partition_that_was_revoked_is_not_committed() -> None:
    log = Log(5)
    assert asyncio.run(attempted(log.assignment(), record(5, partition=1))) == [False]
    assert log.commits == []


def test_an_event_that_is_given_up_has_a_letter_unless_its_patient_is_erased() -> None:
    raw = replace(record(5), key=b"acme|p-1", headers=[("event-key", b"e1")])
    found = given_up(raw, {"mediquo|acme|p-2"}.__contains__)
    assert (found.error, [letter.value for letter in found.records]) == ("worker-ended", [None])
    erased = given_up(raw, {"mediquo|acme|p-1"}.__contains__)
    assert (erased.records, erased.error, erased.erased) == ((), None, "e1")
