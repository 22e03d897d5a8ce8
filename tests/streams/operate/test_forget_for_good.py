"""Erasure deletes everything of one patient and nothing else, and no replay restores it."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step3_restore.erasure_list import Compartment, Hashing
from fhirline.streams.step3_restore.erasure_list_feed import settled_after
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.topics.declared import ERASED, declared
from tests.support.erasure import (
    KEY,
    SECRET,
    all_committed,
    busiest,
    canonical_names,
    changed,
    erase,
    of,
    ordered,
    values,
    wait_until,
)
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.last_records import ALL, held, live_names, name_of, tombstones
from tests.support.load import Load
from tests.support.replaying import replay
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test: what its topics hold is compared whole."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, erasure_key=SECRET)


@pytest.mark.long
def test_everything_of_one_patient_goes_and_nothing_else_and_no_replay_brings_it_back(settings: Settings) -> None:
    """A worker may write for `settled_after` seconds without having read the block: until then the erasure looks."""
    settings = settings.model_copy(update={"delivery_timeout": 10.0})
    own = {**KEY, "FHIRLINE_DELIVERY_TIMEOUT": f"{settings.delivery_timeout:g}"}
    raws = produce(settings, events(300, seed=11))
    store = Store(settings)
    patients = busiest(raws)
    assert patients.keys() == {"altibbi", "azodha", "mediquo"}
    with running(settings, **own) as worker:
        wait_until_as(undisturbed(settings, raws), store, worker)
        before = held(settings, *ALL)
        known = canonical_names(settings, [raw for raw in raws if of(raw, patients.values())])
        began = time.monotonic()
        with ThreadPoolExecutor(len(patients)) as threads:
            erasures = [threads.submit(erase, settings, patient, None) for patient in patients.values()]
            wait_until(lambda: blocked(settings, patients.values()), store, worker)
            meanwhile = produce(settings, [changed(raws, patient, meanwhile=True) for patient in patients.values()])
        assert time.monotonic() - began >= settled_after(settings)
        raws = ordered([*raws, *meanwhile])
        gone = canonical_names(settings, [raw for raw in raws if of(raw, patients.values())])
        for patient, report in zip(patients.values(), (erasure.result() for erasure in erasures), strict=True):
            mine = known & canonical_names(settings, [raw for raw in raws if of(raw, [patient])])
            assert report.complete
            assert {*report.keys} >= {name.partition(" ")[2] for name in mine}
            assert report.tombstones.total() >= len(mine)
            assert report.found_by.keys() == {"raw"}
        after = held(settings, *ALL)
        assert known <= tombstones(after) <= gone
        assert not live_names(after) & gone
        touched = gone | made_of_any(settings, meanwhile)
        assert {place: after[place] for place, _ in before.items() if name_of(place) not in touched} == {
            place: was for place, was in before.items() if name_of(place) not in touched
        }, "somebody else's record"
        assert {place[0] for place in after.keys() - before.keys() if name_of(place) not in touched} == {
            "fhir.r4.Provenance"
        }

        late = [changed(raws, patient, late=True) for patient in patients.values()]
        others = [changed(raws, patients["altibbi"], user_id=f"{number}") for number in range(7_000, 7_012)]
        raws = ordered([*raws, *produce(settings, [*late, *others])])
        kept = undisturbed(settings, [raw for raw in raws if not of(raw, patients.values())])
        wait_until(lambda: kept.items() <= values(store, kept).items(), store, worker)
        wait_until(lambda: all_committed(settings, raws), store, worker)
    assert worker.output.count("erased patient passed over") >= len(late)
    assert tombstones(held(settings, *ALL)) == tombstones(after), "nothing is made of a late event of an erased patient"

    clear_state(settings)
    written = Counter(store.writes)
    again = settings.model_copy(update={"group": "again"})
    with running(again, **own) as another:
        wait_until(lambda: all(store.writes[name] > written[name] for name in kept), store, another)
        wait_until(lambda: all_committed(again, raws), store, another)
    assert tombstones(held(settings, *ALL)) == tombstones(after)
    store.close()
    state = held(settings, *(f"normalizer.state.{vendor}" for vendor in patients))
    for (_, _, key), (value, _) in state.items():
        assert value is None or orjson.loads(key)[0] not in {item.raw_key for item in patients.values()}
    assert another.output.count("erased patient passed over") == sum(of(raw, patients.values()) for raw in raws)


def made_of_any(settings: Settings, raws: Iterable[ConsumerRecord]) -> set[str]:
    """``topic key`` of all records that these events make, also of those that belong to no patient."""
    made: set[str] = set()

    def seen(_: ConsumerRecord, followed: MappedEvent) -> None:
        made.update(f"{record.topic} {record.key.decode()}" for record in followed.records)

    undisturbed(settings, raws, seen)
    return made


def blocked(settings: Settings, patients: Iterable[Compartment]) -> bool:
    """Tell whether the block of every patient can be read."""
    there = {key for _, _, key in held(settings, ERASED)}
    return there >= {Hashing(SECRET.encode()).digest(patient.partition_key).encode() for patient in patients}


def clear_state(settings: Settings) -> None:
    """As if the topics of state had been deleted: everything is folded anew."""
    topics = [item.name for item in declared(settings) if item.name.startswith("normalizer.state.")]
    producer = patient_producer(settings)
    for topic, partition, key in held(settings, *topics):
        producer.produce(topic, key=key, partition=partition)
    assert producer.flush(LIMIT) == 0


@pytest.mark.long
def test_no_replay_restores_a_patient_even_if_it_was_mapped_before_the_erasure(
    settings: Settings, tmp_path: Path
) -> None:
    load = Load(settings, "acme")
    load.send(load.events(60, seed=12))
    patient = load.patient("mediquo")
    load.raws += produce(settings, [changed(load.raws, patient, late=True)])  # not mapped yet: a replay finds it
    mine = load.made_of(patient)
    mapped_before = replay(settings, tmp_path, "--vendor", "mediquo", **KEY)
    assert mapped_before.code == 1, mapped_before.said
    (run,) = (tmp_path / "runs").iterdir()
    assert erase(settings, patient).complete

    late = replay(settings, tmp_path, "--resume", run.name, "--publish", **KEY)
    assert (late.code, "was erased, or let in again, since" in late.said) == (2, True), late.said
    assert not run.exists(), "what can never be published is not kept"
    anew = replay(settings, tmp_path, "--vendor", "mediquo", "--publish", "--all", **KEY)
    assert "tombstones published" in anew.said, anew.said
    assert f"; {sum(of(raw, [patient]) for raw in load.raws)} of erased patients passed over" in anew.said, anew.said
    assert not load.live(mine)
    without = replay(settings, tmp_path, "--vendor", "mediquo", "--publish")
    assert (without.code, "FHIRLINE_ERASURE_KEY" in without.said) == (2, True), without.said
