"""What a worker may commit, and what it does about records that never came to its agent, on real brokers."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import faust
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from faust.types import TP

from config.settings import Settings
from streams import positions as module
from streams.faust_transport import WorkerTransport
from streams.kafka import librdkafka, producer_config
from streams.positions import PassedOver, Positions, PositionsUnknown
from streams.records import RawRecord
from streams.scan import Place, Scanner, raw_record
from tests.kafka.brokers import RunningBroker

TOPIC = "raw.altibbi"
ELSEWHERE = "raw.mediquo"


@dataclass
class Log:
    """Ten new records on a partition, some of them committed by the group, and more on another topic's."""

    settings: Settings
    records: list[RawRecord]
    others: list[RawRecord]

    @property
    def place(self) -> Place:
        return TOPIC, self.records[0].partition


@pytest.fixture(params=["embedded", "apache_kafka"])
def log(request: pytest.FixtureRequest) -> Log:
    running: RunningBroker = request.getfixturevalue(request.param)
    settings = running.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    written = Log(settings, write(settings, TOPIC, 10), write(settings, ELSEWHERE, 4))
    commit(settings, written.records[3])
    commit(settings, written.others[0])
    return written


def write(settings: Settings, topic: str, count: int) -> list[RawRecord]:
    """Records that say their number, on partition 2, as they lie there."""
    producer = Producer(producer_config(settings))
    offsets: list[int] = []
    for number in range(count):
        producer.produce(
            topic,
            str(number).encode(),
            b"key",
            2,
            on_delivery=lambda _, message: offsets.append(message.offset() or 0),
            headers=[("tenant", b"acme")],
        )
    assert producer.flush(30) == 0
    with Scanner(settings) as scanner:
        found = [raw_record(topic.removeprefix("raw."), each) for each in scanner.read({(topic, 2): min(offsets)})]
    assert [each.value for each in found] == [str(number).encode() for number in range(count)]
    return found


def commit(settings: Settings, at: RawRecord) -> None:
    """The group goes on with ``at``."""
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    consumer.commit(offsets=[TopicPartition(at.topic, at.partition, at.offset)], asynchronous=False)
    consumer.close()


def complete(positions: Positions, *batches: Sequence[RawRecord]) -> list[Sequence[RawRecord]]:
    """What each batch becomes; each is delivered before the next."""

    async def all_of_them() -> list[Sequence[RawRecord]]:
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
    assert positions.committable(*log.place) == of[8].offset + 1


def test_a_group_that_has_committed_nothing_begins_at_the_beginning(log: Log) -> None:
    settings = log.settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    [whole] = complete(Positions(settings), [log.records[9]])
    with Scanner(settings) as scanner:
        everything = [raw_record("altibbi", each) for each in scanner.read({log.place: None})]
    assert whole == everything


def test_only_what_is_delivered_may_be_committed(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.complete(of[3:6]))
    assert positions.committable(*log.place) is None
    positions.delivered(of[3:6])
    assert positions.committable(*log.place) == of[5].offset + 1
    assert positions.committable(ELSEWHERE, 2) is None


def test_a_batch_that_outlives_its_assignment_commits_nothing(log: Log) -> None:
    of, positions = log.records, Positions(log.settings)
    positions.assigned([log.place])
    asyncio.run(positions.complete(of[3:6]))
    positions.revoked()
    positions.delivered(of[3:6])
    assert positions.committable(*log.place) is None
    commit(log.settings, of[8])  # another member's
    assert complete(positions, [of[9]]) == [of[8:10]]


def test_all_that_is_assigned_is_asked_for_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[Place]] = []

    def committed(settings: Settings, places: set[Place]) -> dict[Place, int]:
        asked.append(places)
        return ask(settings, places)

    ask = module.committed
    monkeypatch.setattr(module, "committed", committed)
    positions = Positions(log.settings)
    positions.assigned([log.place, (ELSEWHERE, 2)])
    assert complete(positions, log.records[3:5], log.others[:2]) == [log.records[3:5], log.others[:2]]
    assert asked == [{log.place, (ELSEWHERE, 2)}]


def test_too_much_that_was_passed_over_is_no_mishap(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    positions = Positions(log.settings)
    with pytest.raises(PassedOver, match=f"{TOPIC}/2"):
        complete(positions, [log.records[9]])
    assert positions.committable(*log.place) is None


def test_offsets_that_hold_no_record_are_no_loss(apache_kafka: RunningBroker) -> None:
    """A transaction's end takes an offset; what was deleted left its offsets behind."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    producer = Producer(producer_config(settings, **{"transactional.id": f"foreign-{uuid.uuid4()}"}))
    producer.init_transactions(30)
    for value in (b"first", b"second"):
        producer.begin_transaction()
        producer.produce("raw.azodha", value, b"key", 1)
        producer.commit_transaction(30)
    with Scanner(settings) as scanner:
        first, second = [raw_record("azodha", each) for each in scanner.read({("raw.azodha", 1): None})][-2:]
    assert second.offset == first.offset + 2
    commit(settings, first)
    assert complete(Positions(settings), [first], [second]) == [[first], [second]]

    cluster = AdminClient(librdkafka(settings))
    for deleted in cluster.delete_records([TopicPartition("raw.azodha", 1, second.offset)]).values():
        deleted.result(30)
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


def test_faust_commits_what_is_delivered_and_nothing_else(app: faust.App, log: Log) -> None:
    """Neither what it acked without handing it on, nor over what it calls a gap."""
    of, positions = log.records, Positions(log.settings)
    asyncio.run(positions.complete(of[3:4]))

    async def would_commit() -> list[int | None]:
        transport = WorkerTransport(app.conf.broker_consumer, app, positions)
        unused = {"on_partitions_revoked": print, "on_partitions_assigned": print}
        consumer = cast(faust.transport.consumer.Consumer, transport.create_consumer(print, **unused))
        place, found = TP(*log.place), []
        consumer._committed_offset[place] = of[3].offset
        await consumer._add_gap(place, of[3].offset, of[6].offset)
        consumer._acked[place] = [each.offset for each in of[3:9]]
        found.append(consumer._new_offset(place))
        positions.delivered(of[3:5])
        found.append(consumer._new_offset(place))
        assert not consumer._acked[place], "what is acked is kept for ever"
        return found

    assert asyncio.run(would_commit()) == [None, of[4].offset + 1]


def test_headers_and_key_of_what_is_read_are_the_agents(log: Log) -> None:
    """The same event key, tenant and receipt follow from it: a record is mapped alike, whichever way it came."""
    [whole] = complete(Positions(log.settings), [replace(log.records[4], value=b"as the agent has it")])
    assert whole[0] == log.records[3]
    assert whole[0].headers == [("tenant", b"acme")]
    assert whole[1].value == b"as the agent has it"


def test_a_partition_that_stands_still_is_read_on(log: Log) -> None:
    """Only where it stood at the look before, nothing of its topic is in hand, and there is a record."""
    of, positions = log.records, Positions(log.settings)
    ends = {log.place: of[9].offset + 1, (ELSEWHERE, 2): log.others[0].offset}
    positions.assigned([log.place, (ELSEWHERE, 2)])

    async def looks() -> list[dict[Place, int]]:
        found = [await positions.standing(ends), await positions.standing(ends)]  # at of[3], seen twice
        await positions.complete(of[3:5])
        found += [await positions.standing(ends), await positions.standing(ends)]  # in hand
        positions.delivered(of[3:5])
        found += [await positions.standing(ends), await positions.standing(ends)]  # at of[5], seen twice
        return found

    here = {log.place: of[5].offset}
    assert asyncio.run(looks()) == [{}, {log.place: of[3].offset}, {}, {}, {}, here]


def test_a_transactions_marker_is_nothing_to_read_on_to(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    producer = Producer(producer_config(settings, **{"transactional.id": f"foreign-{uuid.uuid4()}"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("raw.infermedica", b"value", b"key", 4)
    producer.commit_transaction(30)
    with Scanner(settings) as scanner:
        [*_, last] = [raw_record("infermedica", each) for each in scanner.read({("raw.infermedica", 4): None})]
    commit(settings, last)
    positions = Positions(settings)
    complete(positions, [last])

    async def looks() -> list[dict[Place, int]]:
        ends = {("raw.infermedica", 4): last.offset + 2}
        return [await positions.standing(ends) for _ in range(3)]

    assert asyncio.run(looks()) == [{}, {}, {}]
    assert positions.committable("raw.infermedica", 4) == last.offset + 1
