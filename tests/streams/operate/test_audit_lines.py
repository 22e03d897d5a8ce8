"""Audit lines of the commands that change something: one before the change, none for a dry run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.deliver.state import Waiting
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.audit import who
from fhirline.streams.operate.replay import folders
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step5_publish.publish import RecordPublisher
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.workload import produce

PATIENTS = [f"Patient/00000000-0000-5000-8000-00000000000{number}" for number in (1, 2)]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """A broker with one event that could not be mapped, and two patients who wait for the FHIR server."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        made = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        letter(made)
        RecordPublisher(made).publish(
            Waiting(number, frozenset([patient]), (patient,), "refused", refused=True).record(number)
            for number, patient in enumerate(PATIENTS)
        )
        yield made


def letter(settings: Settings) -> ConsumerRecord:
    """Receive an event that names no patient, and write the dead letter that a worker makes of it."""
    at = Instant.parse("2024-06-01T12:00:00Z")
    assert at is not None
    body = {"event_type": "survey_finished", "content": {"note": "a note"}}
    (raw,) = produce(settings, [raw_record("infermedica", "acme", orjson.dumps(body), at, None, 64)])
    followed = map_event(raw, build_normalizer(settings), InMemoryState(), settings.partitions).records
    RecordPublisher(settings).publish(item for item in followed if item.topic == "dead-letter.infermedica")
    return raw


def run(settings: Settings, folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run a command that logs errors alone. Return its exit code and its audit lines."""
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_LOG_FORMAT": "json",
        "FHIRLINE_LOG_LEVEL": "error",
        "FHIRLINE_REPLAY_DIR": str(folder),
    }
    done = cli.run(*arguments, env=environment)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return done.returncode, [line for line in lines if line.get("logger") == "audit"]


def stated(line: dict[str, Any]) -> dict[str, Any]:
    """Return what a line says beside its form."""
    return {name: value for name, value in line.items() if name not in ("logger", "level", "timestamp")}


def test_a_redrive_is_audited(settings: Settings, tmp_path: Path) -> None:
    assert run(settings, tmp_path, "dead-letters", "redrive", "--dry-run", "--as", "a clerk") == (0, [])
    sent = ("dead-letters", "redrive", "--yes", "--wait=0", "--idempotency-key=k1", "--as", "a clerk")
    code, (line,) = run(settings, tmp_path, *sent)
    about = {"events": "1", "key": "k1", "by": "dead-letters", "who": who(), "as": "a clerk"}
    assert (code, stated(line)) == (0, {"event": "dead letters redriven", **about})
    assert run(settings, tmp_path, *sent) == (0, []), "nothing was left to send"


def test_what_orders_that_bundles_are_sent_is_audited(settings: Settings, tmp_path: Path) -> None:
    redrive = ("dead-letters", "redrive", "--delivery")
    assert run(settings, tmp_path, *redrive, "--dry-run") == (0, [])
    assert run(settings, tmp_path, *redrive, "--yes", "--code=conflict") == (0, [])
    _, (line,) = run(settings, tmp_path, *redrive, "--yes", "--code=refused", "--as", "a clerk")
    about = {"event": "waiting Bundles resumed", "who": who(), "as": "a clerk"}
    assert stated(line) == {**about, "by": "dead-letters", "patients": "2", "code": "refused"}
    resume = ("deliver", "resume", "--as", "a clerk")
    assert run(settings, tmp_path, *resume, "--patient=Patient/nobody") == (1, [])
    _, (line,) = run(settings, tmp_path, *resume, f"--patient={PATIENTS[0]}")
    assert stated(line) == {**about, "by": "deliver", "patients": "1", "patient": PATIENTS[0]}
    _, (line,) = run(settings, tmp_path, *resume, "--all")
    assert stated(line) == {**about, "by": "deliver", "patients": "2", "patient": None}


def test_a_replay_is_audited_where_it_publishes_or_discards(settings: Settings, tmp_path: Path) -> None:
    compare = ("replay", "--vendor=infermedica", "--jobs=1", "--as", "a clerk")
    assert run(settings, tmp_path, *compare, "--keep")[1] == [], "a comparison changes nothing"
    (kept,) = folders.ids(tmp_path)
    assert run(settings, tmp_path, "replay", f"--discard={kept}") == (2, []), "nobody can be asked"
    code, (line,) = run(settings, tmp_path, "replay", f"--discard={kept}", "--yes", "--as", "a clerk")
    who_did = {"who": who(), "as": "a clerk", "by": "replay"}
    assert (code, stated(line)) == (0, {"event": "replay discarded", "run": kept, **who_did})
    _, (line,) = run(settings, tmp_path, *compare, "--publish", "--all", "--to-prefix=shadow.", "--keep")
    (published,) = folders.ids(tmp_path)
    about = {"run": published, "selection": "infermedica", "prefix": "shadow.", "also": "all"}
    assert stated(line) == {"event": "replay published", **about, **who_did}
    _, (line,) = run(settings, tmp_path, *compare, "--publish", "--outcomes")
    assert line["also"] == "outcomes"
