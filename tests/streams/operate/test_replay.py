"""Replay with the same mapping changes nothing, whatever part is replayed, and wherever it is published."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import from_confluent
from fhirline.topics.declared import raw_topic
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.replaying import Shadows, committed, environment, replay, unchanged
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import MESSAGES, Store, events, produce, undisturbed

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


@pytest.fixture(scope="module")
def mapped(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A broker with all vendors' events, late ones and repeats among them, that a live worker has mapped.

    In clear, unless a test asks for them sealed.
    """
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        kafka = RunningBroker("embedded", broker.bootstrap)
        if getattr(request, "param", "in clear") == "sealed":
            settings = kafka.settings(session_timeout=6, encryption=ENCRYPTION)
            live(settings, events(500, seed=11), FHIRLINE_ENCRYPTION=ENCRYPTION)
        else:
            settings = kafka.settings(session_timeout=6)
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


@pytest.mark.long
@pytest.mark.parametrize("mapped", ["in clear", "sealed"], indirect=True)
def test_replaying_everything_changes_nothing(mapped: Settings, tmp_path: Path) -> None:
    """Every byte is the same, folds included, in any order of partitions."""
    with LogScanner(mapped) as scanner:
        stored = scanner.stored(dict.fromkeys(scanner.topic_partitions([raw_topic("mediquo")])))
        assert {is_sealed(from_confluent(message)) for message in stored} == {bool(mapped.encryption)}
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
    """Killed while it maps, and ended by Ctrl-C or a supervisor, it continues each time, with the same result."""
    begun = started(mapped, tmp_path, "--jobs", "1")
    assert begun.stderr is not None
    for line in begun.stderr:
        if " done" in line:
            break
    begun.kill()
    begun.wait()
    (run,) = (tmp_path / "runs").iterdir()
    options = ("--publish", "--tombstones", "--bundles")
    for end in (signal.SIGTERM, signal.SIGINT):
        again = started(mapped, tmp_path, "--jobs", "1", "--resume", run.name, *options)
        assert again.stderr is not None
        said = [next(again.stderr)]
        while " done" not in said[-1]:
            said.append(next(again.stderr))
        assert line not in said, "what was done is not done again"
        again.send_signal(end)
        _, rest = again.communicate(timeout=LIMIT)
        assert again.returncode == 130, rest
        assert " ".join((f"fhirline replay --resume {run.name}", *options)) in rest
        assert "UserWarning" not in rest
    done = replay(mapped, tmp_path, "--resume", run.name)
    unchanged(done)
    assert f"\n{mapped_events(mapped)} events mapped" in done.said
