"""Erasure: everything of one patient goes, nothing of anybody else's, and no replay brings it back."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import orjson
import pytest
from confluent_kafka import Producer

from config.settings import Settings
from mappers.instants import Instant
from streams.demo.stack import Process
from streams.embedded import EmbeddedBroker
from streams.erasure.block import Compartment
from streams.erasure.find import CANONICAL
from streams.erasure.forget import Erasure
from streams.erasure.report import Report
from streams.headers import header
from streams.kafka import producer_config
from streams.records import RawRecord
from streams.scan import Scanner, headers_of, place_of
from streams.step1_receive.raw_record import Received, raw_record
from tests.kafka.brokers import RunningBroker, create_topics
from tests.test_worker import ENOUGH, running, wait_until_as
from tests.workload import Store, events, produce, undisturbed
from topics.declared import RESOURCE_TYPES, canonical_topic, declared

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"FHIRLINE_ERASURE_KEY": SECRET}
RECEIVED_AT = Instant("2024-07-01T12:00:00Z", (1_719_835_200, ""))
ALL = tuple(canonical_topic(each) for each in RESOURCE_TYPES)


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test: what its topics hold is compared whole."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, erasure_key=SECRET)


def busiest(raws: list[RawRecord]) -> dict[str, Compartment]:
    """Vendor → the patient of whom there are most events."""
    counted: dict[str, Counter[str]] = {}
    for raw in raws:
        key = (raw.key or b"").decode().partition("|")[2]
        if "/" not in key:  # an event that names no patient
            counted.setdefault(raw.vendor, Counter())[key] += 1
    return {vendor: Compartment(vendor, "acme", of.most_common(1)[0][0]) for vendor, of in counted.items()}


def of(raw: RawRecord, patients: Iterable[Compartment]) -> bool:
    return any(raw.vendor == each.vendor and raw.key == each.raw_key.encode() for each in patients)


def changed(raws: list[RawRecord], patient: Compartment, **more: object) -> Received:
    """An event that was never sent before, like one of the patient's."""
    raw = next(raw for raw in raws if of(raw, [patient]))
    body = orjson.dumps({**orjson.loads(raw.value or b""), **more})
    route = header(raw.headers, "event-type")
    return raw_record(raw.vendor, "acme", body, RECEIVED_AT, route, 64)


def ordered(raws: Iterable[RawRecord]) -> list[RawRecord]:
    return sorted(raws, key=lambda each: (each.topic, each.partition, each.offset))


Held = dict[tuple[str, int, bytes], tuple[bytes | None, list[tuple[str, bytes]]]]
"""(topic, partition, key) → value and headers of the last record under it."""


def held(settings: Settings, *topics: str) -> Held:
    with Scanner(settings) as scanner:
        places = {(topic, number): None for topic in topics for number in scanner.partitions(topic)}
        return {
            (*place_of(each), bytes(each.key() or b"")): (each.value(), headers_of(each))
            for each in scanner.read(places)
        }


def tombstones(of: Held) -> set[str]:
    return {f"{topic} {key.decode()}" for (topic, _, key), (value, _) in of.items() if value is None}


def erase(settings: Settings, patient: Compartment, settle: float = 0) -> Report:
    erasure = Erasure(settings, patient)
    try:
        return erasure.erase(erasure.look(), settle)
    finally:
        erasure.close()


def wait_until(condition: Callable[[], bool], store: Store, worker: Process) -> None:
    end = time.monotonic() + ENOUGH
    while not condition():
        assert time.monotonic() < end, worker.report("is")
        assert worker.running, worker.report("has ended")
        store.read(0.1)


def test_everything_of_one_patient_goes_and_nothing_else_and_no_replay_brings_it_back(settings: Settings) -> None:
    raws = produce(settings, events(300, seed=11))
    store = Store(settings)
    patients = busiest(raws)
    assert patients.keys() == {"altibbi", "azodha", "mediquo"}
    with running(settings, **KEY) as worker:
        wait_until_as(undisturbed(settings, raws), store, worker)
        before = held(settings, *ALL)
        gone: set[str] = set()
        for patient in patients.values():
            report = erase(settings, patient)
            made = undisturbed(settings, [raw for raw in raws if of(raw, [patient])])
            mine = {name for name in made if name.partition(" ")[0] in CANONICAL}
            assert report.complete
            assert set(report.keys) == {name.partition(" ")[2] for name in mine}
            assert report.tombstones.total() == len(mine)
            assert report.found_by == {"raw": len(mine)}
            gone |= mine
        after = held(settings, *ALL)
        assert tombstones(after) == gone
        assert all(
            after[place] == was for place, was in before.items() if f"{place[0]} {place[2].decode()}" not in gone
        ), "somebody else's record"
        assert {place[0] for place in after.keys() - before.keys()} == {"fhir.r4.Provenance"}

        late = [changed(raws, each, late=True) for each in patients.values()]
        others = [changed(raws, patients["altibbi"], user_id=f"{number}") for number in range(7_000, 7_012)]
        raws = ordered([*raws, *produce(settings, [*late, *others])])
        left = undisturbed(settings, [raw for raw in raws if not of(raw, patients.values())])
        wait_until(lambda: left.items() <= values(store, left).items(), store, worker)
    assert tombstones(held(settings, *ALL)) == gone, "nothing is made of a late event of an erased patient"

    clear_state(settings)
    written = Counter(store.writes)
    again = settings.model_copy(update={"group": "again"})
    with running(again, **KEY) as worker:
        wait_until(lambda: all(store.writes[name] > written[name] for name in left), store, worker)
        logged = worker.report("")
    assert tombstones(held(settings, *ALL)) == gone
    store.close()
    state = held(settings, *(f"normalizer.state.{vendor}" for vendor in patients))
    for (_, _, key), (value, _) in state.items():
        assert value is None or orjson.loads(key)[0] not in {each.raw_key for each in patients.values()}
    assert "erased patient passed over" in logged


def values(store: Store, of: Iterable[str]) -> dict[str, bytes]:
    """What the store has under these names; of messages, which a repeat makes anew, only that they are there."""
    return {name: store.values[name] for name in of if name in store.values}


def clear_state(settings: Settings) -> None:
    """As if the topics of state had been deleted: everything is folded anew."""
    topics = [each.name for each in declared(settings) if each.name.startswith("normalizer.state.")]
    producer = Producer(producer_config(settings))
    for topic, partition, key in held(settings, *topics):
        producer.produce(topic, key=key, partition=partition)
    assert producer.flush(30) == 0
