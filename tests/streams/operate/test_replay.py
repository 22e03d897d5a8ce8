"""Replay with the same mapping changes nothing. With a changed one it reports the changes and publishes only them."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest
from confluent_kafka import Consumer

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.replay import command
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition, from_confluent
from fhirline.streams.operate.replay.difference import differs_by_version_only
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.topics.declared import BUNDLE, OUTCOME, RESOURCE_TYPES, canonical_topic, raw_topic
from tests.streams.step2_consume.test_worker import running, wait_until_as
from tests.support import cli
from tests.support.cases import cases
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT
from tests.support.workload import MESSAGES, Store, events, produce, undisturbed

SAME, DIFFERS, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Replayed:
    """How a replay ended, what it printed, and what ``--diff-out`` has."""

    code: int
    said: str
    lines: list[dict[str, Any]]

    @property
    def kinds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for line in self.lines:
            found[line["kind"]] = found.get(line["kind"], 0) + 1
        return found


def environment(settings: Settings, folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_GROUP": settings.group,
        "FHIRLINE_REPLAY_DIR": str(folder / "runs"),
        **more,
    }


def replay(settings: Settings, folder: Path, *arguments: str, **more: str) -> Replayed:
    out = folder / "differences.jsonl"
    out.unlink(missing_ok=True)
    jobs = () if "--jobs" in arguments else ("--jobs", "1")  # a process more costs seconds, on a test's few events
    writes = () if "--publish" in arguments else ("--diff-out", str(out))
    done = cli.run("replay", *arguments, *jobs, *writes, env=environment(settings, folder, **more))
    lines = [orjson.loads(line) for line in out.read_bytes().splitlines()] if out.exists() else []
    return Replayed(done.returncode, done.stdout + done.stderr, lines)


HELD = """
import signal
from fhirline.streams.cli import main
from fhirline.streams.cli.output import ProgressReporter

message = ProgressReporter.message

def held(self, text):
    message(self, text)
    if text.endswith(" done"):
        signal.pause()

ProgressReporter.message = held
main()
"""
"""``fhirline`` that stops after the first partition of a replay: the test ends it there, and not once it is over."""


def started(settings: Settings, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HELD, "replay", *arguments],
        env=environment(settings, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Shadows(Store):
    """The records of the shadow topics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        topics = [f"shadow.{canonical_topic(item)}" for item in RESOURCE_TYPES]
        self._places = {TopicPartition(topic, number) for topic in topics for number in range(self.settings.partitions)}


@pytest.fixture(scope="module")
def mapped() -> Iterator[Settings]:
    """A broker with all vendors' events, late ones and repeats among them, that a live worker has mapped."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        live(settings, events(500, seed=11))
        yield settings


def live(settings: Settings, received: Any, **more: str) -> None:
    """Map events with a worker, to the end."""
    expected = undisturbed(settings, produce(settings, received))
    store = Store(settings)
    with running(settings, **more) as worker:
        wait_until_as(expected, store, worker)
        assert worker.stop() == 0
    store.close()


def mapped_events(settings: Settings) -> int:
    return sum(committed(settings).values())


def unchanged(done: Replayed) -> None:
    """Nothing differs. Some events of the workload are refused as before: that is exit code 1, and no difference."""
    refused = "x resource-refused" in done.said
    assert (done.code, done.lines) == (DIFFERS if refused else SAME, []), done.said
    assert "\n0 events mapped" not in done.said


def committed(settings: Settings) -> dict[tuple[str, int], int]:
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    asked = [
        confluent_kafka.TopicPartition(raw_topic(vendor), number)
        for vendor in VENDORS
        for number in range(settings.partitions)
    ]
    found = {(item.topic, item.partition): max(item.offset, 0) for item in consumer.committed(asked, timeout=LIMIT)}
    consumer.close()
    return found


@pytest.mark.long
def test_replaying_everything_changes_nothing(mapped: Settings, tmp_path: Path) -> None:
    """Every byte is the same, folds included, in any order of partitions."""
    before = committed(mapped)
    for jobs in ("1", "2"):
        unchanged(replay(mapped, tmp_path, "--jobs", jobs))
    assert committed(mapped) == before
    assert [*(tmp_path / "runs").iterdir()] == [], "a run without differences leaves nothing"


@pytest.mark.long
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(("--since", "2024-06-01T12:02:00Z", "--until", "2024-06-01T12:05:00Z"), marks=pytest.mark.long),
        ("--time", "event", "--since", "2024-03-01T00:00:00Z", "--tenant", "acme", "--partitions", "0,3-5"),
        pytest.param(("--dead-letters",), marks=pytest.mark.long),
    ],
    ids=["record time", "filters", "dead letters"],
)
def test_a_part_changes_nothing(mapped: Settings, tmp_path: Path, part: tuple[str, ...]) -> None:
    """State of events outside the range comes from the state topic."""
    done = replay(mapped, tmp_path, *part)
    unchanged(done)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """A broker for one test, and settings of a changed mapping: one row of a code table differs."""
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "azodha-gender.yaml").write_text(
        "version: maps-3\ntitle: test\nrows:\n  - { source: [FEMALE], means: { gender: unknown }, evidence: test }\n"
    )
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, terminology_dir=tables)


@pytest.mark.long
@pytest.mark.parametrize(
    "part",
    [
        pytest.param((), id="from nothing"),
        pytest.param(("--tenant", "acme"), id="over what state knows", marks=pytest.mark.long),
    ],
)
def test_a_changed_mapping(own: Settings, tmp_path: Path, part: tuple[str, ...]) -> None:
    """Its changes are reported. Published beside a running worker, the topics are as if it had always been there.

    Before it, the worker folds over the old mapping's state; after it, it must fold over the new one's, although
    it did not write them: a patient's later events say nothing of their gender.
    """
    new = {"FHIRLINE_TERMINOLOGY_DIR": str(own.terminology_dir)}
    raws = produce(own, events(200, seed=21))
    store = Store(own)
    with running(own) as worker:
        wait_until_as(undisturbed(own.model_copy(update={"terminology_dir": None}), raws), store, worker)
    found = replay(own, tmp_path, *part, **new)
    assert found.code == DIFFERS
    assert {(line["kind"], *line["paths"]) for line in found.lines} == {("changed", "gender")}, found.said
    assert {line["key"].partition("/")[0] for line in found.lines} == {"Patient"}
    with running(own, **new) as worker:
        raws += produce(own, events(30, seed=22))
        arrived = undisturbed(own, raws).keys()
        while arrived - store.values.keys():
            assert worker.running, worker.report("has ended")
            store.read()
        published = replay(own, tmp_path, "--publish", *part, **new)
        assert re.search(r"\b[1-9][0-9,]* records? and 0 tombstones published", published.said), published.said
        raws += produce(own, events(30, seed=23))
        in_order = sorted(raws, key=lambda raw: (raw.topic, raw.partition, raw.offset))
        wait_until_as(undisturbed(own, in_order), store, worker)
    store.close()
    unchanged(replay(own, tmp_path, *part, **new))


def test_another_mapping_version_is_no_change_of_a_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Device is named as agent and as target; anything else that differs is a change."""

    def provenances() -> list[dict[str, Any]]:
        made = [output.resource for case in cases() for result in case.run() for output in result.outputs]
        return [orjson.loads(orjson.dumps(item)) for item in made if item["resourceType"] == "Provenance"]

    was = provenances()
    monkeypatch.setattr(common_resources, "MAPPING_VERSION", "map-next")
    now = provenances()
    assert all(one != other and differs_by_version_only(one, other) for one, other in zip(was, now, strict=True))
    assert not differs_by_version_only(was[0], {**now[0], "recorded": "2030-01-01T00:00:00Z"})
    assert not differs_by_version_only(was[0], {**now[0], "target": now[0]["target"][:-1]})


@pytest.mark.long
def test_gone_keys_are_deleted_on_request_only(own: Settings, tmp_path: Path) -> None:
    """A key that the mapping no longer makes is reported. A tombstone needs --tombstones and all events of a vendor."""
    (raw, *others) = produce(own, [event for event in events(60, seed=31) if event.topic == "raw.mediquo"])
    written = headers(
        vendor="mediquo", tenant="acme", raw=str(raw.position), event_key="e" * 64, occurred_at="2024-01-01T00:00:00Z"
    )
    producer = patient_producer(own)
    producer.produce(canonical_topic("Observation"), b"{}", b"Observation/old", 0, headers=list(written))
    assert producer.flush(LIMIT) == 0
    first = replay(own, tmp_path, "--publish", "--bundles", "--vendor", "mediquo")
    assert " 0 records of live events written again" in first.said
    found = replay(own, tmp_path, "--vendor", "mediquo")
    assert [(line["kind"], line["key"]) for line in found.lines] == [("gone", "Observation/old")]
    part = replay(own, tmp_path, "--publish", "--tombstones", "--vendor", "mediquo", "--until", "2024-06-02T00:00:00Z")
    assert part.code == WRONG
    assert replay(own, tmp_path, "--publish", "--tombstones", "--vendor", "mediquo").code in (SAME, DIFFERS)
    store = Store(own)
    store.read_to_the_end()
    assert store.values[f"{canonical_topic('Observation')} Observation/old"] == b""
    expected = undisturbed(own, [raw, *others])
    assert {name for name in expected if name.startswith(BUNDLE)} <= store.values.keys()
    store.close()


@pytest.mark.long
def test_outcomes_are_written_again_on_request_only(own: Settings, tmp_path: Path) -> None:
    """Every event gets today's. One that has none today gets a null value; one that was redriven later keeps it."""
    raws = produce(own, [event for event in events(120, seed=31) if event.topic == "raw.mediquo"])
    made: dict[str, tuple[ConsumerRecord, int]] = {}

    def seen(raw: ConsumerRecord, mapped: MappedEvent) -> None:
        outcomes = [record for record in mapped.records if record.topic == OUTCOME]
        made.update({record.key.decode(): (raw, record.partition or 0) for record in outcomes})

    wanted = {name: value for name, value in undisturbed(own, raws, seen).items() if name.startswith(OUTCOME)}
    assert len(wanted) > 1

    def write(key: str, raw: RecordPosition, partition: int) -> None:
        sent = headers(vendor="mediquo", tenant="acme", raw=str(raw), event_key="e" * 64)
        producer.produce(OUTCOME, b"{}", key, partition, headers=list(sent))

    def outcomes() -> dict[str, bytes]:
        store = Store(own)
        store.read_to_the_end()
        store.close()
        return {name: value for name, value in store.values.items() if name.startswith(OUTCOME)}

    producer, (older, redriven, *_) = patient_producer(own), made
    raw, partition = made[older]
    write(older, raw.position, partition)
    write("OperationOutcome/none-today", raw.position, partition)
    write("OperationOutcome/of-another", RecordPosition("raw.nobody", 0, 0), partition)
    wanted[f"{OUTCOME} OperationOutcome/of-another"] = b"{}"
    raw, partition = made[redriven]
    write(redriven, raw.position._replace(offset=1_000_000), partition)
    wanted[f"{OUTCOME} {redriven}"] = b"{}"
    assert producer.flush(LIMIT) == 0
    before = outcomes()
    assert replay(own, tmp_path, "--publish", "--vendor", "mediquo").code in (SAME, DIFFERS)
    assert outcomes() == before, "without the option"
    part = replay(own, tmp_path, "--publish", "--outcomes", "--vendor", "mediquo", "--until", "2024-06-02T00:00:00Z")
    assert part.code == WRONG
    assert "--outcomes: requires all events" in part.said
    for _ in range(2):  # the second time writes the same
        assert replay(own, tmp_path, "--publish", "--outcomes", "--vendor", "mediquo").code in (SAME, DIFFERS)
        found = outcomes()
        assert found.pop(f"{OUTCOME} OperationOutcome/none-today") == b""
        assert found == wanted


@pytest.mark.long
def test_shadow_topics(mapped: Settings, tmp_path: Path) -> None:
    """They become equal to the canonical topics. Those and the state are not changed."""
    begun = replay(mapped, tmp_path, "--publish", "--to-prefix", "shadow.")
    assert " 0 state entries" in begun.said
    shadows, canonical = Shadows(mapped), Store(mapped)
    shadows.read_to_the_end()
    canonical.read_to_the_end()
    found = {name.removeprefix("shadow."): value for name, value in shadows.values.items()}
    wanted = {name: value for name, value in canonical.values.items() if not name.startswith(MESSAGES)}
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []
    unchanged(replay(mapped, tmp_path, "--to-prefix", "shadow."))


@pytest.mark.long
def test_unchanged_records_are_published_with_all_only(mapped: Settings, tmp_path: Path) -> None:
    """For a reader that starts over: every key of the range once more, in the same bytes.

    Records are counted, not end offsets, which are too low on this broker (faust.md §6).
    """
    with Scanner(mapped) as scanner:
        partitions = scanner.topic_partitions([raw_topic("mediquo")])
        raws = [from_confluent(message) for message in scanner.read(dict.fromkeys(partitions))]
    expected = {name for name in undisturbed(mapped, raws) if not name.startswith(MESSAGES)}
    store = Store(mapped)

    def written() -> tuple[Counter[str], dict[str, bytes]]:
        store.read_to_the_end()
        return store.writes.copy(), store.values.copy()

    before, values = written()
    some = replay(mapped, tmp_path, "--publish", "--vendor", "mediquo")
    assert "\n0 records and 0 tombstones published" in f"\n{some.said}"
    assert written() == (before, values)
    everything = replay(mapped, tmp_path, "--publish", "--all", "--vendor", "mediquo")
    after, same = written()
    again = after - before
    assert f"\n{again.total():,} records and 0 tombstones published" in f"\n{everything.said}"
    assert {*again.values()} == {1}
    assert set(again) == expected
    assert same == values
    store.close()


@pytest.mark.long
def test_stopped_and_resumed(mapped: Settings, tmp_path: Path) -> None:
    """Killed while it maps, and interrupted by Ctrl-C, it continues each time, with the same result."""
    begun = started(mapped, tmp_path, "--jobs", "1")
    assert begun.stderr is not None
    for line in begun.stderr:
        if " done" in line:
            break
    begun.kill()
    begun.wait()
    (run,) = (tmp_path / "runs").iterdir()
    options = ("--publish", "--tombstones", "--bundles")
    again = started(mapped, tmp_path, "--jobs", "1", "--resume", run.name, *options)
    assert again.stderr is not None
    said = [next(again.stderr)]
    while " done" not in said[-1]:
        said.append(next(again.stderr))
    assert line not in said, "what was done is not done again"
    again.send_signal(signal.SIGINT)
    _, rest = again.communicate(timeout=LIMIT)
    assert again.returncode == 130, rest
    assert " ".join((f"fhirline replay --resume {run.name}", *options)) in rest
    done = replay(mapped, tmp_path, "--resume", run.name)
    unchanged(done)
    assert f"\n{mapped_events(mapped)} events mapped" in done.said


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        (None, 8),
        ("max 100000", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("990000 10000", 8),
    ],
)
def test_a_containers_limit_bounds_the_processes(
    limit: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process per core of a large machine would need more than the container's memory."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n", "ascii")
    assert command._cores(tmp_path / "cpu.max") == cores
