"""``fhirline replay`` on a test's broker: its arguments, and what it prints and writes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest
from confluent_kafka import Consumer

from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.records import TopicPartition
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic, raw_topic
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.waiting import LIMIT
from tests.support.workload import Store

SAME, DIFFERS, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Replayed:
    """The end of a replay: its exit code, what it printed, and what ``--diff-out`` has."""

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
        **({"FHIRLINE_ENCRYPTION": settings.encryption.get_secret_value()} if settings.encryption else {}),
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


class Shadows(Store):
    """The records of the shadow topics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        topics = [f"shadow.{canonical_topic(item)}" for item in RESOURCE_TYPES]
        self._places = {TopicPartition(topic, number) for topic in topics for number in range(self.settings.partitions)}


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
