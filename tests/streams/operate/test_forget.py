"""Erasure deletes everything of one patient and nothing else, and no replay restores it."""

import json
import os
import pty
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition, headers_of, partition_of
from fhirline.streams.observe.audit import who
from fhirline.streams.operate.erasure.aliases import aliases_of
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.mapped import CANONICAL
from fhirline.streams.operate.erasure.report import INDEFINITELY, Report
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.contributions import PartitionContributions
from fhirline.streams.step3_restore.erasure_list import Block, Compartment, ErasureList, Hashing, OtherKey
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed, settled_after
from fhirline.streams.step3_restore.state import state_record
from fhirline.streams.step4_normalize.map_event import MappedEvent, map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import (
    BUNDLE,
    CONTRIBUTIONS,
    ERASED,
    RESOURCE_TYPES,
    canonical_topic,
    declared,
    state_topic,
)
from tests.streams.operate.test_replay import committed, replay
from tests.streams.step2_consume.test_worker import running, wait_until_as
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, practitioners, produce, undisturbed

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"FHIRLINE_ERASURE_KEY": SECRET}
RECEIVED_AT = Instant("2024-07-01T12:00:00Z", (1_719_835_200, ""))
ALL = tuple(canonical_topic(item) for item in RESOURCE_TYPES)


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test: what its topics hold is compared whole."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, erasure_key=SECRET)


def busiest(raws: list[ConsumerRecord]) -> dict[str, Compartment]:
    """Return each vendor's patient with the most events, of those whose events lie under the patient's key only."""
    counted: dict[str, Counter[str]] = {}
    several = {raw.key for raw in raws if aliases_of(envelope_of(raw))}
    for raw in raws:
        key = (raw.key or b"").decode().partition("|")[2]
        if "/" not in key and raw.key not in several:  # "/": an event that names no patient
            counted.setdefault(raw.vendor, Counter())[key] += 1
    return {vendor: Compartment(vendor, "acme", of.most_common(1)[0][0]) for vendor, of in counted.items()}


def of(raw: ConsumerRecord, patients: Iterable[Compartment]) -> bool:
    return any(raw.vendor == patient.vendor and raw.key == patient.raw_key.encode() for patient in patients)


def changed(raws: list[ConsumerRecord], patient: Compartment, **more: object) -> ProducerRecord:
    """Make a new event like one of the patient's."""
    raw = next(raw for raw in raws if of(raw, [patient]))
    body = orjson.dumps({**orjson.loads(raw.value or b""), **more})
    route = header(raw.headers, "event-type")
    return raw_record(raw.vendor, patient.tenant, body, RECEIVED_AT, route, 64)


def ordered(raws: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    return sorted(raws, key=lambda raw: (raw.topic, raw.partition, raw.offset))


Held = dict[tuple[str, int, bytes], tuple[bytes | None, list[tuple[str, bytes]]]]
"""(topic, partition, key) → value and headers of the last record under it."""


def held(settings: Settings, *topics: str) -> Held:
    with Scanner(settings) as scanner:
        return {
            (*partition_of(item), bytes(item.key() or b"")): (item.value(), headers_of(item))
            for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))
        }


def tombstones(of: Held) -> set[str]:
    return {f"{topic} {key.decode()}" for (topic, _, key), (value, _) in of.items() if value is None}


def erase(settings: Settings, patient: Compartment, settle: float | None = 0) -> Report:
    erasure = Erasure(settings, patient)
    try:
        return erasure.erase(erasure.find(), settle)
    finally:
        erasure.close()


def wait_until(condition: Callable[[], bool], store: Store, worker: Process) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, worker.report("is")
        assert worker.running, worker.report("has ended")
        store.read(0.1)


@dataclass
class Load:
    """Events of one tenant, mapped and delivered in this process as a worker would."""

    settings: Settings
    tenant: str
    raws: list[ConsumerRecord] = field(default_factory=list)
    contributions: PartitionContributions = field(default_factory=PartitionContributions)

    def send(self, records: Iterable[ProducerRecord], kept: bool = True) -> list[ConsumerRecord]:
        """Produce raw records and what follows from them. ``kept`` False: as if raw's retention were over."""
        if kept:
            raws = produce(self.settings, records)
        else:
            raws = [replace(record.at(0, 10**9 + n), timestamp_ms=0) for n, record in enumerate(records)]
        erased = ErasureListFeed(self.settings)
        erased.refresh()
        normalize = build_normalizer(self.settings)
        memories: dict[TopicPartition, InMemoryState] = {}
        out: list[ProducerRecord] = []
        for raw in raws:
            memory = memories.setdefault(raw.topic_partition, InMemoryState())
            followed = map_event(raw, normalize, memory, self.settings.partitions, erased.erasure_list.blocks)
            memory.apply(followed.state_updates)
            state = state_topic(raw.vendor, raw.topic.endswith(".enriched"))
            out += followed.records
            out += [state_record(state, raw.partition, followed.key, update) for update in followed.state_updates]
        for record in out:
            if record.topic == CONTRIBUTIONS:
                self.contributions.read(record.key, record.value, record.headers)
        out += practitioners(normalize, self.contributions, self.settings.partitions)
        RecordPublisher(self.settings).publish(out)
        erased.close()
        self.raws += raws
        return raws

    def events(self, count: int, seed: int) -> Iterator[ProducerRecord]:
        for event in events(count, seed):
            route = header(event.headers, "event-type")
            at = Instant.parse(header(event.headers, "received-at"))
            assert at
            yield raw_record(event.topic.removeprefix("raw."), self.tenant, event.value or b"", at, route, 64)

    def patient(self, vendor: str) -> Compartment:
        return replace(busiest(self.raws)[vendor], tenant=self.tenant)

    def made_of(self, patient: Compartment) -> set[str]:
        """``topic key`` of the canonical records that follow from the patient's events and belong to nobody else."""
        made = undisturbed(self.settings, [raw for raw in self.raws if of(raw, [patient])])
        return {name for name in made if name.partition(" ")[0] in CANONICAL}

    def live(self, names: Iterable[str]) -> set[str]:
        values = {f"{topic} {key.decode()}": value for (topic, _, key), (value, _) in held(self.settings, *ALL).items()}
        return {name for name in names if values.get(name) is not None}


@pytest.fixture
def load(embedded: RunningBroker) -> Load:
    return load_on(embedded)


def load_on(broker: RunningBroker) -> Load:
    """A tenant of its own."""
    return Load(broker.settings(erasure_key=SECRET, session_timeout=6), f"t-{uuid4().hex[:12]}")


@pytest.mark.long
@pytest.mark.parametrize(("crash_at", "on"), [(1, "apache_kafka"), (2, "embedded")])
def test_another_run_finishes_after_a_crash(
    crash_at: int, on: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes after the block, and after the Bundle before any tombstone."""
    load = load_on(request.getfixturevalue(on))
    load.send(load.events(40, seed=3))
    patient = load.patient("mediquo")
    mine = load.made_of(patient)
    assert load.live(mine) == mine
    calls: Iterator[int] = count()

    def crashing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if next(calls) == crash_at:
            raise PublishFailed("crash")
        return deliver(self, records, delivered)

    deliver = RecordPublisher.publish
    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", crashing)
        with pytest.raises(PublishFailed, match="crash"):
            erase(load.settings, patient)
    assert load.live(mine) == mine
    load.send([changed([raw], patient, late=True) for raw in load.raws if of(raw, [patient])])
    assert load.made_of(patient) > mine
    assert load.live(load.made_of(patient)) == mine, "blocked already"
    report = erase(load.settings, patient)
    assert (report.complete, report.bundles) == (True, 1)
    assert not load.live(load.made_of(patient))
    again = erase(load.settings, patient)
    assert (again.complete, again.bundles, again.tombstones.total()) == (True, 0, 0)
    assert again.blocked_at == report.blocked_at


def test_without_raw_records_references_and_origins_find_everything(load: Load) -> None:
    load.send(load.events(150, seed=4), kept=False)
    for vendor in ("altibbi", "azodha", "mediquo"):
        patient = load.patient(vendor)
        mine = load.made_of(patient)
        report = erase(load.settings, patient)
        assert report.complete
        assert report.found_by.keys() <= {"reference", "origin"}
        assert not load.live(mine), report.found_by


def test_bundle_and_provenance_are_valid_and_do_not_name_the_patient(load: Load) -> None:
    load.send(load.events(60, seed=5))
    patient = load.patient("altibbi")
    clear = [f'"{patient.key}"'.encode(), patient.raw_key.encode()]
    ids = {name.partition(" ")[2] for name in load.made_of(patient)}
    report = erase(load.settings, patient)
    told = [
        (topic, orjson.loads(value))
        for (topic, _, _), (value, sent) in held(load.settings, BUNDLE, "fhir.r4.Provenance", ERASED).items()
        if value and header(sent, "event-type") == "erasure" and header(sent, "tenant") == load.tenant
    ]
    (bundle,) = [item for topic, item in told if topic == BUNDLE]
    (provenance,) = [item for topic, item in told if topic != BUNDLE]
    deletes = [entry["request"]["url"] for entry in bundle["entry"] if entry["request"]["method"] == "DELETE"]
    assert {*deletes} == ids
    assert deletes[-1].startswith("Patient/"), "what refers to it goes first"
    assert bundle["entry"][-1]["resource"] == provenance
    both = build_normalizer(load.settings.model_copy(update={"validation": "both"}))
    assert not both.validate(bundle)
    assert provenance["activity"]["coding"][0]["code"] == "DELETE"
    said = orjson.dumps(provenance)
    assert not any(item in said for item in (*clear, *map(str.encode, ids)))
    blocks = held(load.settings, ERASED)
    assert report.digest.encode() in {key for _, _, key in blocks}
    assert not any(item in key + (value or b"") for item in clear for (_, _, key), (value, _) in blocks.items())


def test_the_report_lists_what_remains_and_until_when(load: Load) -> None:
    raws = load.send(load.events(60, seed=6))
    patient = load.patient("azodha")
    report = erase(load.settings, patient)
    (raw,) = [item for item in report.remaining if item.topic == "raw.azodha"]
    mine = [item.offset for item in raws if of(item, [patient])]
    assert (raw.records, raw.first_offset, raw.last_offset) == (len(mine), min(mine), max(mine))
    assert raw.until == INDEFINITELY
    (bundles,) = [item for item in report.remaining if item.topic == BUNDLE]
    assert 0 < bundles.records <= len(mine)
    assert bundles.until[:2] == "20"


def test_a_survey_is_erased_with_its_patient(load: Load) -> None:
    """Its thin event does not name the patient. Without a block of its own it would be mapped and fetched again."""
    thin = {"event_type": "survey_finished", "content": {"survey_id": f"s-{load.tenant}"}}
    whole = {**thin, "summary": {"patient": {"id": "p-1", "full_name": "X"}}, "evidence_assessment": {}}
    first = raw_record("infermedica", load.tenant, orjson.dumps(thin), RECEIVED_AT, None, 64)
    second = raw_record("infermedica", load.tenant, orjson.dumps(whole), RECEIVED_AT, None, 64)
    load.send([first, replace(second, topic="raw.infermedica.enriched")])
    patient = Compartment.of("infermedica", load.tenant, "p-1")
    report = erase(load.settings, patient)
    assert (report.complete, report.blocks) == (True, 2)
    assert {item.topic for item in report.remaining} >= {"raw.infermedica", "raw.infermedica.enriched"}
    (raw,) = load.send([first])
    made = {name for name in undisturbed(load.settings, [raw]) if name.partition(" ")[0] in CANONICAL}
    assert len(made) == 2, "QuestionnaireResponse and Provenance"
    assert not load.live(made)


@pytest.mark.long
def test_records_of_another_producer_are_found_in_other_partitions(load: Load) -> None:
    """They have no header of ours and another key, so they are in another partition than the patient's."""
    load.send(load.events(60, seed=8))
    patient = load.patient("mediquo")
    body = {**orjson.loads(changed(load.raws, patient).value or b""), "foreign": True}
    elsewhere = [
        ProducerRecord(
            "raw.mediquo",
            f"{n}".encode(),
            orjson.dumps({**body, "n": n}),
            headers=[("tenant", load.tenant.encode())],
            timestamp_ms=1,
        )
        for n in range(12)
    ]
    raws = load.send(elsewhere)
    assert len({raw.partition for raw in raws}) > 1
    report = erase(load.settings, patient)
    stays = sum(item.records for item in report.remaining if item.topic == "raw.mediquo")
    assert stays == 12 + sum(of(raw, [patient]) for raw in load.raws)


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


def canonical_names(settings: Settings, raws: Iterable[ConsumerRecord]) -> set[str]:
    """``topic key`` of the canonical records that these events make and that belong to their patients."""
    return {name for name in undisturbed(settings, raws) if name.partition(" ")[0] in CANONICAL}


def made_of_any(settings: Settings, raws: Iterable[ConsumerRecord]) -> set[str]:
    """``topic key`` of all records that these events make, also of those that belong to no patient."""
    made: set[str] = set()

    def seen(_: ConsumerRecord, followed: MappedEvent) -> None:
        made.update(f"{record.topic} {record.key.decode()}" for record in followed.records)

    undisturbed(settings, raws, seen)
    return made


def name_of(place: tuple[str, int, bytes]) -> str:
    return f"{place[0]} {place[2].decode()}"


def live_names(of: Held) -> set[str]:
    return {name_of(place) for place, (value, _) in of.items() if value is not None}


def blocked(settings: Settings, patients: Iterable[Compartment]) -> bool:
    """Tell whether the block of every patient can be read."""
    there = {key for _, _, key in held(settings, ERASED)}
    return there >= {Hashing(SECRET.encode()).digest(patient.partition_key).encode() for patient in patients}


def all_committed(settings: Settings, raws: Iterable[ConsumerRecord]) -> bool:
    """Tell whether the worker has committed every one of these events, mapped or not."""
    done = committed(settings)
    return all(done.get(raw.topic_partition, 0) > raw.offset for raw in raws)


def values(store: Store, of: Iterable[str]) -> dict[str, bytes]:
    """What the store has under these names; of messages, which a repeat makes anew, only that they are there."""
    return {name: store.values[name] for name in of if name in store.values}


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
    assert not load.live(mine)
    without = replay(settings, tmp_path, "--vendor", "mediquo", "--publish")
    assert (without.code, "FHIRLINE_ERASURE_KEY" in without.said) == (2, True), without.said


def fhirline(settings: Settings, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return cli.run(
        "forget", *arguments, env={**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **more}, stdin=stdin
    )


@pytest.mark.long
def test_the_command_reports_what_it_does_and_never_names_the_patient(load: Load, tmp_path: Path) -> None:
    load.send(load.events(40, seed=14))
    patient = load.patient("mediquo")
    mine = load.made_of(patient)
    named = ("--vendor", "mediquo", "--tenant", load.tenant, "--patient", "-")
    key, exported = f"{patient.key}\n", tmp_path / "report.json"

    reason = ("--reason", "ticket 8")
    for none in ((), ("--reason", " "), ("--lift",)):
        unexplained = fhirline(load.settings, *named, "--yes", *none, stdin=key, **KEY)
        assert (unexplained.returncode, unexplained.stdout) == (2, "")
        assert unexplained.stderr.startswith("fhirline: --reason: required, for the audit event")
    keyless = fhirline(load.settings, *named, "--yes", *reason, stdin=key)
    assert (keyless.returncode, "FHIRLINE_ERASURE_KEY: not set" in keyless.stderr) == (2, True)
    dry = fhirline(load.settings, *named, "--dry-run", stdin=key, **KEY)
    assert (dry.returncode, dry.stdout.splitlines()[-1]) == (0, "Nothing was done."), dry.stderr
    unasked = fhirline(load.settings, *named, *reason, stdin=key, **KEY)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    typo = fhirline(load.settings, *named, "--yes", *reason, stdin=f"{patient.key}x\n", **KEY)
    assert (typo.returncode, "nothing is known" in typo.stderr) == (1, True)
    unwritable = fhirline(load.settings, *named, "--yes", "--export-report=/no/such/folder", *reason, stdin=key, **KEY)
    assert (unwritable.returncode, "--export-report" in unwritable.stderr) == (2, True)
    assert load.live(mine) == mine, "so far nothing was to be done"

    exported.write_text("of an earlier run")
    exported.chmod(0o644)
    because = ("--reason", "ticket 9", "--as", "a clerk")
    asked = (*named, "--yes", "--settle=0", f"--export-report={exported}", *because)
    done = fhirline(load.settings, *asked, stdin=key, **KEY)
    assert done.returncode == 0, done.stderr
    (audit,) = (json.loads(line) for line in done.stderr.splitlines() if "patient erased" in line)
    assert (audit["reason"], audit["as"]) == ("ticket 9", "a clerk")
    assert (audit["patient"], audit["who"]) == (json.loads(exported.read_text())["digest"], who())
    assert not any("patient erased" in said.stderr for said in (keyless, dry, unasked, typo))
    assert not load.live(mine)
    report = json.loads(exported.read_text())
    assert set(report["keys"]) == {name.partition(" ")[2] for name in mine}
    assert exported.stat().st_mode & 0o077 == 0
    for said in (dry.stdout, dry.stderr, done.stdout, done.stderr, exported.read_text()):
        assert patient.key not in said

    assert fhirline(load.settings, *named, "--lift", "--yes", *reason, stdin=key, **KEY).returncode == 0
    load.raws = load.send([changed([raw], patient, come="back") for raw in load.raws if of(raw, [patient])])
    assert load.live(load.made_of(patient)) == load.made_of(patient) != set()


def test_on_a_terminal_the_key_is_asked_for_without_echo() -> None:
    main, other = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-c", "from fhirline.streams.cli.forget import _asked; print(_asked())"],
        stdin=other,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # without a terminal of its own but this one
    )
    try:
        prompt = b"patient key: "
        assert asking.stderr
        assert asking.stderr.read(len(prompt)) == prompt
        os.write(main, b"PATIENT-IN-HAND\n")
        out, error = asking.communicate(timeout=LIMIT)
        assert out == b"PATIENT-IN-HAND\n", error
        assert b"PATIENT-IN-HAND" not in error
        os.set_blocking(main, False)
        try:
            shown = os.read(main, 1000)
        except BlockingIOError:
            shown = b""
        assert b"PATIENT-IN-HAND" not in shown
    finally:
        asking.kill()
        asking.wait()
        os.close(main)
        os.close(other)


def test_without_the_key_of_the_blocks_nothing_is_mapped() -> None:
    own, other = Hashing(b"a" * 32), Hashing(b"b" * 32)
    patient = Compartment.of("altibbi", "acme", "1")
    record = own.digest(patient.partition_key).encode(), Block(own.check, "2024-06-01T12:00:00Z").encode()
    for hashing, why in ((None, r"normalizer\.erased has erased patients \(1\)"), (other, "1 of 1 patients")):
        with pytest.raises(OtherKey, match=f"FHIRLINE_ERASURE_KEY: {why}"):
            ErasureList(hashing).apply([record])
    erased = ErasureList(own)
    erased.apply([record])
    assert erased.block(patient)
    assert not erased.block(Compartment.of("altibbi", "other", "1"))
    erased.apply([(record[0], None)])
    assert not erased.block(patient)
    ErasureList(None).apply([record, (record[0], None)])
