"""Replay changes nothing where nothing has changed; where a mapping has, it says what, and publishes just that."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from config.settings import Settings
from streams.embedded import EmbeddedBroker
from streams.kafka import librdkafka
from tests.kafka.brokers import RunningBroker, create_topics
from tests.test_worker import ENOUGH, running, wait_until_as
from tests.workload import Store, events, produce, undisturbed
from topics.declared import raw_topic

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
        for each in self.lines:
            found[each["kind"]] = found.get(each["kind"], 0) + 1
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
    writes = () if "--publish" in arguments else ("--diff-out", str(out))
    done = subprocess.run(
        [sys.executable, "-c", "from streams.cli import main; main()", "replay", *arguments, *writes],
        env=environment(settings, folder, **more),
        capture_output=True,
        text=True,
        timeout=ENOUGH,
        check=False,
    )
    lines = [orjson.loads(line) for line in out.read_bytes().splitlines()] if out.exists() else []
    return Replayed(done.returncode, done.stdout + done.stderr, lines)


@pytest.fixture(scope="module")
def mapped() -> Iterator[Settings]:
    """All vendors' events, late ones and repeats among them, as a live worker has mapped them."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        live(settings, events(900, seed=11))
        yield settings


def live(settings: Settings, received: Any, **more: str) -> None:
    """Have a worker map events, to the end."""
    expected = undisturbed(settings, produce(settings, received))
    store = Store(settings)
    with running(settings, **more) as worker:
        wait_until_as(expected, store, worker)
        assert worker.stop() == 0
    store.close()


def unchanged(done: Replayed) -> None:
    """Nothing differs. Some events of the workload are refused, again: that alone is exit code 1, and no difference."""
    refused = "x resource-refused" in done.said
    assert (done.code, done.lines) == (DIFFERS if refused else SAME, []), done.said
    assert "\n0 events mapped" not in done.said


def committed(settings: Settings) -> dict[tuple[str, int], int]:
    consumer = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    asked = [
        TopicPartition(raw_topic(vendor), number)
        for vendor in ("altibbi", "azodha", "mediquo")
        for number in range(settings.partitions)
    ]
    found = {(each.topic, each.partition): each.offset for each in consumer.committed(asked, timeout=20)}
    consumer.close()
    return found


def test_replaying_everything_changes_nothing(mapped: Settings, tmp_path: Path) -> None:
    """The law: byte for byte, folds included, in whatever order partitions come."""
    before = committed(mapped)
    for order in (("--jobs", "1"), ("--jobs", "2")):
        done = replay(mapped, tmp_path, *order)
        unchanged(done)
    assert committed(mapped) == before
    assert [*(tmp_path / "runs").iterdir()] == [], "a run without differences leaves nothing"


@pytest.mark.parametrize(
    "part",
    [
        ("--since", "2024-06-01T12:05:00Z", "--until", "2024-06-01T12:10:00Z"),
        ("--time", "event", "--since", "2024-03-01T00:00:00Z"),
        ("--vendor", "altibbi", "--partitions", "0,3-5"),
        ("--tenant", "acme", "--event-type", "recommendation_data"),
    ],
    ids=["record time", "event time", "partitions", "filters"],
)
def test_a_part_changes_nothing(mapped: Settings, tmp_path: Path, part: tuple[str, ...]) -> None:
    """What the range does not hold, its folds know from the state topic."""
    done = replay(mapped, tmp_path, *part)
    unchanged(done)
