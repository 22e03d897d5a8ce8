"""The offsets that a worker commits, and records that never reach its agent, on real brokers."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import confluent_kafka
import faust
import pytest
import structlog
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.admin import AdminClient
from faust.types import TP

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka import log_scanner
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step2_consume.faust import offset_gaps
from fhirline.streams.step2_consume.faust import offsets as module
from fhirline.streams.step2_consume.faust.offset_gaps import GapTooLarge, PositionsUnknown
from fhirline.streams.step2_consume.faust.offsets import Fetched, LogTruncated, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT

TOPIC = "raw.altibbi"
ELSEWHERE = TopicPartition("raw.mediquo", 2)


@dataclass
class Log:
    """Ten new records of a partition, of which the group has committed three, and others of another topic."""

    settings: Settings
    records: list[ConsumerRecord]
    others: list[ConsumerRecord]

    @property
    def partition(self) -> TopicPartition:
        return self.records[0].topic_partition


@pytest.fixture(params=["embedded", pytest.param("apache_kafka", marks=pytest.mark.long)])
def log(request: pytest.FixtureRequest) -> Log:
    running: RunningBroker = request.getfixturevalue(request.param)
    settings = running.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    written = Log(settings, write(settings, TOPIC, 10), write(settings, ELSEWHERE.topic, 4))
    commit(settings, written.records[3])
    commit(settings, written.others[0])
    return written


def write(settings: Settings, topic: str, count: int) -> list[ConsumerRecord]:
    """Write records with their number as value to partition 2, and return them as they were read."""
    producer = patient_producer(settings)
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if delivery_error(error, message) is None:
            offsets.append(cast(int, message.offset()))

    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", 2, on_delivery=delivered, headers=[("tenant", b"acme")])
    assert producer.flush(LIMIT) == 0
    assert len(offsets) == count
    with Scanner(settings) as scanner:
        found = [from_confluent(item) for item in scanner.read({TopicPartition(topic, 2): min(offsets)})]
    assert [item.value for item in found] == [str(number).encode() for number in range(count)]
    return found


def commit(settings: Settings, at: ConsumerRecord) -> None:
    """Commit for the group, so that ``at`` is the next record."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    consumer.commit(offsets=[confluent_kafka.TopicPartition(at.topic, at.partition, at.offset)], asynchronous=False)
    consumer.close()


def delete_before(first: ConsumerRecord, settings: Settings) -> None:
    """Delete older records, as retention does."""
    cluster = AdminClient(librdkafka(settings))
    partition = confluent_kafka.TopicPartition(first.topic, first.partition, first.offset)
    for deleted in cluster.delete_records([partition]).values():
        deleted.result(LIMIT)


def complete(positions: Positions, *batches: Sequence[ConsumerRecord]) -> list[Sequence[ConsumerRecord]]:
    """Return each batch with its gaps filled. Each is delivered before the next."""

    async def all_of_them() -> list[Sequence[ConsumerRecord]]:
        made = []
        for batch in batches:
            made.append(whole := await positions.fill_gaps(batch))
            positions.mark_delivered(whole)
            positions.end_batch(whole)
        return made

    return asyncio.run(all_of_them())


def test_missing_records_are_read_and_put_in_their_places(log: Log) -> None:
    """Before a batch (the group had committed less), within it, and in two partitions at once."""
    of, others = log.records, log.others
    [whole] = complete(Positions(log.settings), [of[5], others[2], of[6], of[9], others[3]])
    assert whole == [*of[3:6], *others[0:3], *of[6:10], others[3]]


def test_a_batch_without_gaps_is_unchanged(log: Log) -> None:
    of = log.records
    batches = [of[3:5], of[5:9], [of[9]]]
    made = complete(Positions(log.settings), *batches)
    assert all(whole is batch for whole, batch in zip(made, batches, strict=True))


def test_a_gap_between_two_batches_is_filled(log: Log) -> None:
    of = log.records
    assert complete(Positions(log.settings), of[3:5], [of[7]])[1] == of[5:8]


def test_a_repeated_record_is_mapped_again_and_moves_no_offset_back(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    assert complete(positions, of[3:8], of[1:4], [of[8]]) == [of[3:8], of[1:4], [of[8]]]
    assert positions.committable(log.partition) == of[8].offset + 1


def test_a_group_without_commits_begins_at_the_beginning(log: Log) -> None:
    settings = log.settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    [whole] = complete(Positions(settings), [log.records[9]])
    with Scanner(settings) as scanner:
        everything = [from_confluent(item) for item in scanner.read({log.partition: None})]
    assert whole == everything


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


def test_a_gap_that_is_too_large_is_an_error(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_gaps, "MAX_GAP_RECORDS", 4)
    positions = Positions(log.settings)
    with pytest.raises(GapTooLarge, match=f"{TOPIC}/2"):
        complete(positions, [log.records[9]])
    assert positions.committable(log.partition) is None


def test_offsets_without_a_record_are_no_gap(apache_kafka: RunningBroker) -> None:
    """The end of a transaction takes an offset, and deleted records leave theirs behind."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    with transaction(settings, "raw.azodha", 1, 1) as [first]:
        pass
    with transaction(settings, "raw.azodha", 1, 1) as [second]:
        pass
    assert second.offset == first.offset + 2
    commit(settings, first)
    assert complete(Positions(settings), [first], [second]) == [[first], [second]]

    delete_before(second, settings)
    settings = settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    assert complete(Positions(settings), [second]) == [[second]]


def test_unknown_committed_offsets_are_an_error(log: Log) -> None:
    nowhere = log.settings.model_copy(update={"bootstrap": "127.0.0.1:1", "session_timeout": 1.0})
    with pytest.raises(PositionsUnknown, match=log.settings.group):
        complete(Positions(nowhere), log.records[3:4])


@pytest.fixture
def app() -> faust.App:
    """An app that is not started. Its consumer is asked what it would commit."""
    return faust.App("positions", broker="aiokafka://127.0.0.1:1", web_enabled=False)


def unstarted(transport: WorkerTransport) -> WorkerConsumer:
    """Return a transport's consumer that never connects: none of its callbacks is ever called."""

    async def unused(_: object) -> None:
        raise AssertionError("the consumer was started")

    consumer = transport.create_consumer(unused, on_partitions_revoked=unused, on_partitions_assigned=unused)
    assert isinstance(consumer, WorkerConsumer)
    return consumer


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


def test_a_missing_record_is_read_as_the_agent_would_get_it(log: Log) -> None:
    """With key and headers: event key, tenant and time of receipt must not depend on the way that it came."""
    [whole] = complete(Positions(log.settings), [replace(log.records[4], value=b"as the agent has it")])
    assert whole[0] == log.records[3]
    assert whole[0].headers == [("tenant", b"acme")]
    assert whole[1].value == b"as the agent has it"


def fetched(*ends: tuple[TopicPartition, int]) -> dict[TopicPartition, Fetched]:
    """Return the state in which everything has been fetched."""
    return {partition: Fetched(end, end) for partition, end in ends}


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


def test_a_mark_moves_no_offset_back(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    assert not positions.markable(log.partition, of[3].offset)  # nothing is known of the partition yet
    complete(positions, of[3:6])
    assert [positions.markable(log.partition, item.offset) for item in of[3:8]] == [False, False, False, True, True]


def test_a_partition_that_is_not_fetched_yet_is_not_stalled(log: Log) -> None:
    positions = Positions(log.settings)
    positions.on_assigned([log.partition])

    async def looks() -> list[dict[TopicPartition, int]]:
        at = {log.partition: Fetched(log.records[3].offset, log.records[9].offset + 1)}
        return [await positions.stalled(at) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]


@contextmanager
def transaction(settings: Settings, topic: str, partition: int, count: int) -> Iterator[list[ConsumerRecord]]:
    """Yield a foreign producer's records. They are committed when the context ends, and a marker then follows them."""
    patience = {"transaction.timeout.ms": int(LIMIT * 1_000)}
    producer = patient_producer(settings, {"transactional.id": f"foreign-{uuid.uuid4()}", **patience})
    producer.init_transactions(LIMIT)
    producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", partition)
    producer.flush(LIMIT)
    with Scanner(settings) as scanner:
        written = [from_confluent(item) for item in scanner.read({TopicPartition(topic, partition): None})]
    yield written[-count:]
    producer.commit_transaction(LIMIT)


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


def test_an_end_before_known_records_is_not_believed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has just become the leader reports such an end."""
    monkeypatch.setattr(log_scanner, "SILENCE_SECONDS", 2.0)
    beyond = {log.partition: log.records[9].offset + 5}
    with Scanner(log.settings) as scanner:
        assert len(list(scanner.read({log.partition: log.records[0].offset}, beyond))) == 10
        with pytest.raises(KafkaRequestFailed, match="does not answer"):
            list(scanner.read({log.partition: log.records[0].offset}, beyond, whole=True))


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


def test_an_answer_for_an_ended_assignment_is_not_used(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = Positions(log.settings)

    def committed(settings: Settings, partitions: set[TopicPartition]) -> dict[TopicPartition, offset_gaps.Committed]:
        found = offset_gaps.committed_offsets(settings, partitions)
        positions.on_revoked()
        return found

    monkeypatch.setattr(module, "committed_offsets", committed)
    assert complete(positions, log.records[3:5]) == [log.records[3:5]]
    assert positions.committable(log.partition) is None


def test_records_deleted_before_they_were_mapped_are_logged(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    of = write(settings, "raw.azodha", 6)
    commit(settings, of[1])
    delete_before(of[4], settings)
    with structlog.testing.capture_logs() as lines:
        assert complete(Positions(settings), [of[4]], [of[5]]) == [[of[4]], [of[5]]]
    [told] = [line for line in lines if line["log_level"] == "error"]
    assert told["event"] == "records were deleted before they were mapped"
    assert (told["first"], told["kept_from"]) == (of[1].offset, of[4].offset)
