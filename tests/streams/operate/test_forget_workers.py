"""``fhirline forget`` names the running workers and enrichments that do not have the erasure key."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.demo.stack import Process
from fhirline.streams.enrich.stage import enrich_group
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.operate.status.groups import Group, Groups
from fhirline.streams.step3_restore.client_id import NO_KEY, client_id, key_mark
from fhirline.streams.step3_restore.erasure_list import Hashing
from fhirline.topics.declared import canonical_topic, enriched_topic
from tests.support.enriching import TENANT, enriching, survey
from tests.support.erasure import KEY, SECRET, fhirline
from tests.support.infermedica_server import InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import CONFIG
from tests.support.running_worker import running
from tests.support.waiting import LIMIT
from tests.support.workload import produce

NAMED = ("--vendor", "infermedica", "--tenant", TENANT, "--patient", "p-1", "--unknown")
"""A patient by the key that Infermedica's results have; no event names it yet."""


@contextmanager
def both(settings: Settings, broker: RunningBroker, folder: Path, **environment: str) -> Iterator[dict[str, Process]]:
    """Run a worker and an enrichment of one group until the context ends, once each has its partitions."""
    group = {"FHIRLINE_GROUP": settings.group}
    vendors = vendors_file(folder)
    with (
        InfermedicaServer() as api,
        running(settings, **environment) as worker,
        enriching(broker, api, vendors, **group, **environment) as enrich,
    ):
        api.complete("s-1", patient="p-1")
        started = {settings.group: worker, enrich_group(settings): enrich}
        for name, process in started.items():
            wait_until(lambda found: found.state == "stable", settings, name, process)
        yield {"worker": worker, "enrich": enrich}


def vendors_file(folder: Path) -> Path:
    """Write the packaged vendors with a tenant whose events are enriched."""
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["tenants"][TENANT] = {"enrichment": True}
    (folder / "vendors.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return folder / "vendors.yaml"


@pytest.mark.long
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
def test_processes_without_the_key_are_named_before_anything_is_done(own_broker: RunningBroker, tmp_path: Path) -> None:
    """A process's client id shows in its group's description whether it has this deployment's key.

    On a broker of its own: where a patient is erased, a process without the key ends at once.
    """
    settings = own_broker.settings(session_timeout=6, erasure_key=SECRET, group=f"forget-{uuid4().hex[:8]}")
    for environment, problem in (
        ({}, "has no erasure key: it ends when it reads the block"),
        ({"FHIRLINE_ERASURE_KEY": "f" * 32}, "has another erasure key: it ends when it reads the block"),
        (KEY, ""),
    ):
        with both(settings, own_broker, tmp_path, **environment) as processes:
            done = fhirline(settings, *NAMED, "--dry-run", FHIRLINE_GROUP=settings.group, **KEY)
            assert [process.stop() for process in processes.values()] == [0, 0]
        assert done.returncode == 0, done.stderr
        warnings = [line for line in done.stderr.splitlines() if line.startswith("fhirline forget: ")]
        groups = {"worker": settings.group, "enrich": enrich_group(settings)}
        expected = [f"{name} at 127.0.0.1 (group {group}) {problem}" for name, group in groups.items() if problem]
        assert len(warnings) == len(expected), done.stderr
        assert all(text in line for text, line in zip(expected, warnings, strict=True)), done.stderr
        assert SECRET not in done.stderr


@pytest.mark.long
def test_a_broker_that_names_no_members_is_no_assurance(own_broker: RunningBroker, tmp_path: Path) -> None:
    """The embedded broker knows that a group is in use, and not by whom: `fhirline forget` says so of both groups.

    What it warns of comes true: a process without the key ends once it reads the block, and has written nothing of
    the patient.
    """
    settings = own_broker.settings(session_timeout=6, erasure_key=SECRET, group=f"forget-{uuid4().hex[:8]}")
    with both(settings, own_broker, tmp_path) as processes:
        reason = ("--reason", "ticket 12", "--yes")
        done = fhirline(settings, *NAMED, *reason, FHIRLINE_GROUP=settings.group, FHIRLINE_SESSION_TIMEOUT="6", **KEY)
        assert done.returncode == 0, done.stderr
        produce(settings, [survey("s-1")])
        codes = {name: process.wait(LIMIT) for name, process in processes.items()}
    warnings = [line for line in done.stderr.splitlines() if line.startswith("fhirline forget: ")]
    assert len(warnings) == 2, done.stderr
    for name, line in zip(("worker", "enrich"), warnings, strict=True):
        assert f"cannot tell whether {name} processes have the erasure key" in line
    for name, code in (("worker", 70), ("enrich", 2)):
        assert codes[name] == code, processes[name].report("said")
        assert "normalizer.erased has erased patients (1)" in processes[name].report("said")
    with Scanner(settings) as scanner:
        topics = [enriched_topic("infermedica"), canonical_topic("Patient")]
        written = list(scanner.read(dict.fromkeys(scanner.topic_partitions(topics))))
    assert all(message.value() is None for message in written), "tombstones are allowed"


def wait_until(condition: Callable[[Group], bool], settings: Settings, name: str, process: Process) -> None:
    """Wait for a condition of a process's group. A cluster without any group has no coordinator at first."""
    groups, end, found = Groups(settings), time.monotonic() + LIMIT, None
    while found is None or not condition(found):
        assert time.monotonic() < end, found
        assert process.running, process.report("has ended")
        with suppress(KafkaRequestFailed):
            found = groups.read((name,))[name]
        time.sleep(0.2)  # a description is not pushed; the condition is the loop's


@pytest.mark.parametrize("other", ["fhirline-enrich", "faust-0.11", "fhirline-worker.erasure-key-", "aiokafka-1"])
def test_a_client_id_shows_the_key_and_does_not_reveal_it(other: str) -> None:
    own = Hashing(SECRET.encode())
    shown = client_id("worker", own)
    assert key_mark(shown) == own.mark == key_mark(client_id("enrich", own))
    assert key_mark(client_id("worker", Hashing(b"f" * 32))) not in (own.mark, NO_KEY, None)
    assert key_mark(client_id("worker", None)) == NO_KEY
    assert key_mark(other) is None, "another program, or another release"
    assert not any(part in shown for part in (SECRET, own.check))
