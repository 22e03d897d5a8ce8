"""What a worker may commit, and what it does about records that never came to its agent, on real brokers."""

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
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from faust.types import TP

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka import reader
from fhirline.streams.kafka.clients import librdkafka, producer_config
from fhirline.streams.kafka.delivery_report import delivery_error
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.step2_consume.faust import offset_gaps
from fhirline.streams.step2_consume.faust import offsets as module
from fhirline.streams.step2_consume.faust.offset_gaps import PassedOver, PositionsUnknown
from fhirline.streams.step2_consume.faust.offsets import Fetched, LogEndsBefore, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from tests.support.kafka.brokers import RunningBroker

TOPIC = "raw.altibbi"
ELSEWHERE = TopicPartition("raw.mediquo", 2)


@dataclass
class Log:
    """Ten new records on a partition, some of them committed by the group, and more on another topic's."""

    settings: Settings
    records: list[ConsumerRecord]
    others: list[ConsumerRecord]

    @property
    def place(self) -> TopicPartition:
        return self.records[0].topic_partition


@pytest.fixture(params=["embedded", "apache_kafka"])
def log(request: pytest.FixtureRequest) -> Log:
    running: RunningBroker = request.getfixturevalue(request.param)
    settings = running.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    written = Log(settings, write(settings, TOPIC, 10), write(settings, ELSEWHERE.topic, 4))
    commit(settings, written.records[3])
    commit(settings, written.others[0])
    return written


def write(settings: Settings, topic: str, count: int) -> list[ConsumerRecord]:
    """Records that say their number, on partition 2, as they lie there."""
    producer = Producer(producer_config(settings))
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if delivery_error(error, message) is None:
            offsets.append(cast(int, message.offset()))

    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", 2, on_delivery=delivered, headers=[("tenant", b"acme")])
    assert producer.flush(30) == 0
    assert len(offsets) == count
    with Scanner(settings) as scanner:
        found = [from_confluent(each) for each in scanner.read({TopicPartition(topic, 2): min(offsets)})]
    assert [each.value for each in found] == [str(number).encode() for number in range(count)]
    return found


def commit(settings: Settings, at: ConsumerRecord) -> None:
    """The group goes on with ``at``."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    consumer.commit(offsets=[confluent_kafka.TopicPartition(at.topic, at.partition, at.offset)], asynchronous=False)
    consumer.close()


def delete_before(first: ConsumerRecord, settings: Settings) -> None:
    """As retention does."""
    cluster = AdminClient(librdkafka(settings))
    place = confluent_kafka.TopicPartition(first.topic, first.partition, first.offset)
    for deleted in cluster.delete_records([place]).values():
        deleted.result(30)


def complete(positions: Positions, *batches: Sequence[ConsumerRecord]) -> list[Sequence[ConsumerRecord]]:
    """What each batch becomes; each is delivered before the next."""

    async def all_of_them() -> list[Sequence[ConsumerRecord]]:
        made = []
        for batch in batches:
            made.append(whole := await positions.complete(batch))
            positions.delivered(whole)
        return made

    return asyncio.run(all_of_them())


def test_what_was_passed_over_takes_its_place(log: Log) -> None:
    """Before a batch, where the group had committed less, within it, and in two partitions at once."""
    of, others = log.records, log.others
    [whole] = complete(Positions(log.settings), [of[5], others[2], of[6], of[9], others[3]])
    assert whole == [*of[3:6], *others[0:3], *of[6:10], others[3]]


def test_a_batch_that_follows_on_is_left_alone(log: Log) -> None:
    of = log.records
    batches = [of[3:5], of[5:9], [of[9]]]
    made = complete(Positions(log.settings), *batches)
    assert all(whole is batch for whole, batch in zip(made, batches, strict=True))


def test_passed_over_between_two_batches(log: Log) -> None:
    of = log.records
    assert complete(Positions(log.settings), of[3:5], [of[7]])[1] == of[5:8]


def test_what_comes_again_is_mapped_again_and_moves_nothing_back(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    assert complete(positions, of[3:8], of[1:4], [of[8]]) == [of[3:8], of[1:4], [of[8]]]
    assert positions.committable(log.place) == of[8].offset + 1


def test_a_group_that_has_committed_nothing_begins_at_the_beginning(log: Log) -> None:
    settings = log.settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    [whole] = complete(Positions(settings), [log.records[9]])
    with Scanner(settings) as scanner:
        everything = [from_confluent(each) for each in scanner.read({log.place: None})]
    assert whole == everything


def test_only_what_is_delivered_may_be_committed(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.complete(of[3:6]))
    assert positions.committable(log.place) is None
    positions.delivered(of[3:6])
    assert positions.committable(log.place) == of[5].offset + 1
    assert positions.committable(ELSEWHERE) is None


def test_a_batch_that_outlives_its_assignment_commits_nothing(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    positions.assigned([log.place])
    asyncio.run(positions.complete(of[3:6]))
    positions.revoked()
    positions.delivered(of[3:6])
    assert positions.committable(log.place) is None
    commit(log.settings, of[8])  # another member's
    assert complete(positions, [of[9]]) == [of[8:10]]


def test_all_that_is_assigned_is_asked_for_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[TopicPartition]] = []

    def committed(settings: Settings, places: set[TopicPartition]) -> dict[TopicPartition, int]:
        asked.append(places)
        return ask(settings, places)

    ask = offset_gaps.committed
    monkeypatch.setattr(module, "committed", committed)
    positions = Positions(log.settings)
    positions.assigned([log.place, ELSEWHERE])
    assert complete(positions, log.records[3:5], log.others[:2]) == [log.records[3:5], log.others[:2]]
    assert asked == [{log.place, ELSEWHERE}]


def test_too_much_that_was_passed_over_is_no_mishap(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_gaps, "MOST", 4)
    positions = Positions(log.settings)
    with pytest.raises(PassedOver, match=f"{TOPIC}/2"):
        complete(positions, [log.records[9]])
    assert positions.committable(log.place) is None


def test_offsets_that_hold_no_record_are_no_loss(apache_kafka: RunningBroker) -> None:
    """A transaction's end takes an offset; what was deleted left its offsets behind."""
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


def test_nothing_goes_on_where_kafka_does_not_say_what_is_committed(log: Log) -> None:
    nowhere = log.settings.model_copy(update={"bootstrap": "127.0.0.1:1", "session_timeout": 1.0})
    with pytest.raises(PositionsUnknown, match=log.settings.group):
        complete(Positions(nowhere), log.records[3:4])


@pytest.fixture
def app() -> faust.App:
    """Not started: its consumer is asked what it would commit."""
    return faust.App("positions", broker="aiokafka://127.0.0.1:1", web_enabled=False)


def unstarted(transport: WorkerTransport) -> WorkerConsumer:
    """Return a transport's consumer that never connects: none of its callbacks is ever called."""

    async def unused(_: object) -> None:
        raise AssertionError("the consumer was started")

    consumer = transport.create_consumer(unused, on_partitions_revoked=unused, on_partitions_assigned=unused)
    assert isinstance(consumer, WorkerConsumer)
    return consumer


def test_faust_commits_what_is_delivered_and_nothing_else(app: faust.App, log: Log) -> None:
    """Neither what it acked without handing it on, nor over what it calls a gap."""
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.complete(of[3:4]))

    async def would_commit() -> list[dict[TP, int]]:
        transport = WorkerTransport(app.conf.broker_consumer, app, positions)
        consumer = unstarted(transport)
        place, found = TP(*log.place), []

        def committable() -> dict[TP, int]:
            made: dict[TP, int] = consumer._filter_committable_offsets(consumer._filter_tps_with_pending_acks(None))
            return made

        consumer._committed_offset[place] = of[3].offset
        await consumer._add_gap(place, of[3].offset, of[6].offset)
        consumer._acked[place] = [each.offset for each in of[3:9]]
        found.append(committable())
        positions.delivered(of[3:5])
        found.append(committable())
        assert not consumer._acked[place], "what is acked is kept for ever"
        found.append(committable())  # Faust believes that it has committed, and Kafka has not taken it
        positions.committed({log.place: of[5].offset})
        found.append(committable())
        return found

    both = {TP(*log.place): of[4].offset + 1}
    assert asyncio.run(would_commit()) == [{}, both, both, {}]


def test_headers_and_key_of_what_is_read_are_the_agents(log: Log) -> None:
    """The same event key, tenant and receipt follow from it: a record is mapped alike, whichever way it came."""
    [whole] = complete(Positions(log.settings), [replace(log.records[4], value=b"as the agent has it")])
    assert whole[0] == log.records[3]
    assert whole[0].headers == [("tenant", b"acme")]
    assert whole[1].value == b"as the agent has it"


def fetched(*ends: tuple[TopicPartition, int]) -> dict[TopicPartition, Fetched]:
    """All that there is has been fetched."""
    return {place: Fetched(end, end) for place, end in ends}


def test_a_partition_that_stands_still_is_read_on(log: Log) -> None:
    """Only where it stood at the look before, no batch of its topic was there since, and there is a record."""
    of, positions = log.records, Positions(log.settings)
    at = fetched((log.place, of[9].offset + 1), (ELSEWHERE, log.others[0].offset))
    positions.assigned([log.place, ELSEWHERE])

    async def looks() -> list[dict[TopicPartition, int]]:
        found = [await positions.standing(at), await positions.standing(at)]  # at of[3], seen twice
        await positions.complete(of[3:5])
        found += [await positions.standing(at), await positions.standing(at)]  # in hand
        positions.delivered(of[3:5])
        found += [await positions.standing(at)]  # at of[5], for the first time
        await positions.complete(of[1:2])
        positions.delivered(of[1:2])
        found += [await positions.standing(at), await positions.standing(at)]  # there was another batch
        return found

    here = {log.place: of[5].offset}
    assert asyncio.run(looks()) == [{}, {log.place: of[3].offset}, {}, {}, {}, {}, here]


def test_what_is_not_fetched_yet_does_not_stand_still(log: Log) -> None:
    positions = Positions(log.settings)
    positions.assigned([log.place])

    async def looks() -> list[dict[TopicPartition, int]]:
        at = {log.place: Fetched(log.records[3].offset, log.records[9].offset + 1)}
        return [await positions.standing(at) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]


@contextmanager
def transaction(settings: Settings, topic: str, partition: int, count: int) -> Iterator[list[ConsumerRecord]]:
    """A foreign producer's records, committed when the context ends: then the log has a marker behind them."""
    producer = Producer(producer_config(settings, **{"transactional.id": f"foreign-{uuid.uuid4()}"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, str(number).encode(), b"key", partition)
    producer.flush(30)
    with Scanner(settings) as scanner:
        written = [from_confluent(each) for each in scanner.read({TopicPartition(topic, partition): None})]
    yield written[-count:]
    producer.commit_transaction(30)


def test_a_transactions_marker_is_nothing_to_read_on_to(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    place = TopicPartition("raw.infermedica", 4)
    with transaction(settings, *place, 1) as [last]:
        pass
    commit(settings, last)
    positions = Positions(settings)
    complete(positions, [last])

    async def looks() -> list[dict[TopicPartition, int]]:
        return [await positions.standing(fetched((place, last.offset + 2))) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]
    assert positions.committable(place) == last.offset + 1


def test_an_open_transaction_hides_nothing(apache_kafka: RunningBroker) -> None:
    """The worker maps what is written; so that is what may not be passed over."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    place = TopicPartition("raw.infermedica", 5)
    with transaction(settings, *place, 10) as of:
        commit(settings, of[0])
        assert complete(Positions(settings), [of[5]]) == [of[:6]]

        positions = Positions(settings)
        positions.assigned([place])

        async def looks() -> list[dict[TopicPartition, int]]:
            return [await positions.standing(fetched((place, of[9].offset + 1))) for _ in range(2)]

        assert asyncio.run(looks()) == [{}, {place: of[0].offset}]
        complete(positions, [of[0]])
        assert positions.committable(place) == of[1].offset


def test_an_end_before_what_is_known_to_be_there_is_not_believed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a leader which has just become one."""
    monkeypatch.setattr(reader, "SILENCE_SECONDS", 2.0)
    beyond = {log.place: log.records[9].offset + 5}
    with Scanner(log.settings) as scanner:
        assert len(list(scanner.read({log.place: log.records[0].offset}, beyond))) == 10
        with pytest.raises(KafkaRequestFailed, match="does not answer"):
            list(scanner.read({log.place: log.records[0].offset}, beyond, whole=True))


def test_a_log_that_ends_before_what_is_committed_is_no_quiet_one(apache_kafka: RunningBroker) -> None:
    """Faust would drop every record until the old end is reached, and commit from there on."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    [*_, last] = write(settings, TOPIC, 3)
    place, end = TopicPartition(TOPIC, 2), last.offset + 1
    commit(settings, replace(last, offset=end + 1_000))
    positions = Positions(settings)
    positions.assigned([place])

    async def looks() -> None:
        assert await positions.standing(fetched((place, end))) == {}
        await positions.standing(fetched((place, end)))

    with pytest.raises(LogEndsBefore, match=f"{TOPIC}/2 before {end + 1_000}"):
        asyncio.run(looks())


def test_an_end_that_is_only_heard_of_late_is_no_short_log(log: Log) -> None:
    """Committed at the end, and a broker that tells an earlier one."""
    end = log.records[9].offset + 1
    commit(log.settings, replace(log.records[9], offset=end))
    positions = Positions(log.settings)
    positions.assigned([log.place])

    async def looks() -> list[dict[TopicPartition, int]]:
        return [await positions.standing(fetched((log.place, end - 3))) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]


def test_an_answer_for_an_assignment_that_is_over_counts_for_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = Positions(log.settings)

    def committed(settings: Settings, places: set[TopicPartition]) -> dict[TopicPartition, int]:
        found = offset_gaps.committed(settings, places)
        positions.revoked()
        return found

    monkeypatch.setattr(module, "committed", committed)
    assert complete(positions, log.records[3:5]) == [log.records[3:5]]
    assert positions.committable(log.place) is None


def test_records_deleted_before_they_were_mapped_are_told(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    of = write(settings, "raw.azodha", 6)
    commit(settings, of[1])
    delete_before(of[4], settings)
    with structlog.testing.capture_logs() as lines:
        assert complete(Positions(settings), [of[4]], [of[5]]) == [[of[4]], [of[5]]]
    [told] = [line for line in lines if line["log_level"] == "error"]
    assert told["event"] == "records were deleted before they were mapped"
    assert (told["first"], told["kept_from"]) == (of[1].offset, of[4].offset)
