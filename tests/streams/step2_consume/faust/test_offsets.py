"""The offsets that a worker commits, on real brokers."""

import asyncio

import faust
import pytest
from faust.types import TP

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step2_consume.faust import offset_gaps
from fhirline.streams.step2_consume.faust import offsets as module
from fhirline.streams.step2_consume.faust.offset_gaps import PositionsUnknown
from fhirline.streams.step2_consume.faust.offsets import Positions
from fhirline.streams.step2_consume.faust.transport import WorkerTransport
from tests.streams.step2_consume.faust.logs import ELSEWHERE, Log, commit, complete, unstarted


def test_a_repeated_record_is_mapped_again_and_moves_no_offset_back(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    assert complete(positions, of[3:8], of[1:4], [of[8]]) == [of[3:8], of[1:4], [of[8]]]
    assert positions.committable(log.partition) == of[8].offset + 1


def test_only_what_is_delivered_may_be_committed(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.fill_gaps(of[3:6]))
    assert positions.committable(log.partition) is None
    positions.mark_delivered(of[3:6])
    assert positions.committable(log.partition) == of[5].offset + 1
    assert positions.committable(ELSEWHERE) is None


def test_a_batch_that_outlives_its_assignment_commits_nothing(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    positions.on_assigned([log.partition])
    asyncio.run(positions.fill_gaps(of[3:6]))
    positions.on_revoked()
    positions.mark_delivered(of[3:6])
    assert positions.committable(log.partition) is None
    commit(log.settings, of[8])  # another member's
    assert complete(positions, [of[9]]) == [of[8:10]]


def test_committed_offsets_of_all_assigned_partitions_are_asked_for_at_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[TopicPartition]] = []

    def committed(settings: Settings, partitions: set[TopicPartition]) -> dict[TopicPartition, offset_gaps.Committed]:
        asked.append(partitions)
        return ask(settings, partitions)

    ask = offset_gaps.committed_offsets
    monkeypatch.setattr(module, "committed_offsets", committed)
    positions = Positions(log.settings)
    positions.on_assigned([log.partition, ELSEWHERE])
    assert complete(positions, log.records[3:5], log.others[:2]) == [log.records[3:5], log.others[:2]]
    assert asked == [{log.partition, ELSEWHERE}]


def test_unknown_committed_offsets_are_an_error(log: Log) -> None:
    nowhere = log.settings.model_copy(update={"bootstrap": "127.0.0.1:1", "session_timeout": 1.0})
    with pytest.raises(PositionsUnknown, match=log.settings.group):
        complete(Positions(nowhere), log.records[3:4])


def test_an_answer_for_an_ended_assignment_is_not_used(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = Positions(log.settings)

    def committed(settings: Settings, partitions: set[TopicPartition]) -> dict[TopicPartition, offset_gaps.Committed]:
        found = offset_gaps.committed_offsets(settings, partitions)
        positions.on_revoked()
        return found

    monkeypatch.setattr(module, "committed_offsets", committed)
    assert complete(positions, log.records[3:5]) == [log.records[3:5]]
    assert positions.committable(log.partition) is None


def test_a_mark_moves_no_offset_back(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    assert not positions.markable(log.partition, of[3].offset)  # nothing is known of the partition yet
    complete(positions, of[3:6])
    assert [positions.markable(log.partition, item.offset) for item in of[3:8]] == [False, False, False, True, True]


@pytest.fixture
def app() -> faust.App:
    """An app that is not started. Its consumer is asked what it would commit."""
    return faust.App("positions", broker="aiokafka://127.0.0.1:1", web_enabled=False)


def test_faust_commits_only_what_is_delivered(app: faust.App, log: Log) -> None:
    """It commits neither what it acknowledged without handing it on, nor over what it calls a gap."""
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.fill_gaps(of[3:4]))

    async def would_commit() -> list[dict[TP, int]]:
        transport = WorkerTransport(app.conf.broker_consumer, app, positions)
        consumer = unstarted(transport)
        partition, found = TP(*log.partition), []

        def committable() -> dict[TP, int]:
            made: dict[TP, int] = consumer._filter_committable_offsets(consumer._filter_tps_with_pending_acks(None))
            return made

        consumer._committed_offset[partition] = of[3].offset
        await consumer._add_gap(partition, of[3].offset, of[6].offset)
        consumer._acked[partition] = [item.offset for item in of[3:9]]
        found.append(committable())
        positions.mark_delivered(of[3:5])
        found.append(committable())
        assert not consumer._acked[partition], "acknowledgements are collected forever"
        found.append(committable())  # Faust believes that it has committed, and Kafka has not taken it
        positions.mark_committed({log.partition: of[5].offset})
        found.append(committable())
        return found

    both = {TP(*log.partition): of[4].offset + 1}
    assert asyncio.run(would_commit()) == [{}, both, both, {}]
