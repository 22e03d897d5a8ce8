"""A partition that stands still although it has records is found, on real brokers."""

import asyncio
import uuid
from dataclasses import replace

import pytest

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step2_consume.faust.offsets import Fetched, LogTruncated, Positions
from tests.streams.step2_consume.faust.logs import ELSEWHERE, TOPIC, Log, commit, complete, fetched, transaction, write
from tests.support.kafka.brokers import RunningBroker


def test_a_stalled_partition_is_found(log: Log) -> None:
    """Only where the check before saw the same, with no batch of its topic in between, and a record exists."""
    of, positions = log.records, Positions(log.settings)
    at = fetched((log.partition, of[9].offset + 1), (ELSEWHERE, log.others[0].offset))
    positions.on_assigned([log.partition, ELSEWHERE])

    async def looks() -> list[dict[TopicPartition, int]]:
        found = [await positions.stalled(at), await positions.stalled(at)]  # at of[3], seen twice
        await positions.fill_gaps(of[3:5])
        found += [await positions.stalled(at), await positions.stalled(at)]  # in hand
        positions.mark_delivered(of[3:5])
        found += [await positions.stalled(at), await positions.stalled(at)]  # a part of the batch is delivered
        positions.end_batch(of[3:5])
        found += [await positions.stalled(at)]  # at of[5], for the first time
        await positions.fill_gaps(of[1:2])
        positions.mark_delivered(of[1:2])
        positions.end_batch(of[1:2])
        found += [await positions.stalled(at), await positions.stalled(at)]  # there was another batch
        return found

    here = {log.partition: of[5].offset}
    assert asyncio.run(looks()) == [{}, {log.partition: of[3].offset}, {}, {}, {}, {}, {}, {}, here]


def test_a_partition_that_is_not_fetched_yet_is_not_stalled(log: Log) -> None:
    positions = Positions(log.settings)
    positions.on_assigned([log.partition])

    async def looks() -> list[dict[TopicPartition, int]]:
        at = {log.partition: Fetched(log.records[3].offset, log.records[9].offset + 1)}
        return [await positions.stalled(at) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]


def test_a_partition_with_only_a_transactions_marker_left_is_not_stalled(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    partition = TopicPartition("raw.infermedica", 4)
    with transaction(settings, *partition, 1) as [last]:
        pass
    commit(settings, last)
    positions = Positions(settings)
    complete(positions, [last])

    async def looks() -> list[dict[TopicPartition, int]]:
        return [await positions.stalled(fetched((partition, last.offset + 2))) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]
    assert positions.committable(partition) == last.offset + 1


def test_records_of_an_open_transaction_are_not_skipped(apache_kafka: RunningBroker) -> None:
    """The worker reads uncommitted, so these records count."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    partition = TopicPartition("raw.infermedica", 5)
    with transaction(settings, *partition, 10) as of:
        commit(settings, of[0])
        assert complete(Positions(settings), [of[5]]) == [of[:6]]

        positions = Positions(settings)
        positions.on_assigned([partition])

        async def looks() -> list[dict[TopicPartition, int]]:
            return [await positions.stalled(fetched((partition, of[9].offset + 1))) for _ in range(2)]

        assert asyncio.run(looks()) == [{}, {partition: of[0].offset}]
        complete(positions, [of[0]])
        assert positions.committable(partition) == of[1].offset


def test_a_log_that_ends_before_the_committed_offset_is_an_error(apache_kafka: RunningBroker) -> None:
    """Faust would drop every record below the old end, and commit from there on."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    [*_, last] = write(settings, TOPIC, 3)
    partition, end = TopicPartition(TOPIC, 2), last.offset + 1
    commit(settings, replace(last, offset=end + 1_000))
    positions = Positions(settings)
    positions.on_assigned([partition])

    async def looks() -> None:
        assert await positions.stalled(fetched((partition, end))) == {}
        await positions.stalled(fetched((partition, end)))

    with pytest.raises(LogTruncated, match=f"{TOPIC}/2 before {end + 1_000}"):
        asyncio.run(looks())


def test_a_broker_that_reports_an_old_end_is_no_truncated_log(log: Log) -> None:
    """The group has committed the end, and the broker reports an earlier one."""
    end = log.records[9].offset + 1
    commit(log.settings, replace(log.records[9], offset=end))
    positions = Positions(log.settings)
    positions.on_assigned([log.partition])

    async def looks() -> list[dict[TopicPartition, int]]:
        return [await positions.stalled(fetched((log.partition, end - 3))) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]
