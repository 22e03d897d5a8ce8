"""``fhirline forget`` names the running workers that do not have the erasure key."""

import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import pytest

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.demo.stack import Process
from fhirline.streams.operate.erasure.workers import without_the_key
from fhirline.streams.operate.status.groups import Group, Groups
from fhirline.streams.step3_restore.client_id import NO_KEY, client_id, key_mark
from fhirline.streams.step3_restore.erasure_list import Hashing
from tests.streams.operate.test_forget import KEY, SECRET, fhirline
from tests.streams.step2_consume.test_worker import running
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT


@pytest.mark.long
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
def test_workers_without_the_key_are_named_before_anything_is_done(own_broker: RunningBroker) -> None:
    """A worker's client id shows in its group's description whether it has this deployment's key.

    On a broker of its own: where a patient is erased, a worker without the key ends at once.
    """
    settings = own_broker.settings(session_timeout=6, erasure_key=SECRET, group=f"forget-{uuid4().hex[:8]}")
    asked = ("--vendor", "mediquo", "--tenant", settings.group, "--patient", "1", "--dry-run", "--unknown")
    for environment, problem in (
        ({}, "has no erasure key: it ends when it reads the block"),
        ({"FHIRLINE_ERASURE_KEY": "f" * 32}, "has another erasure key: it ends when it reads the block"),
        (KEY, ""),
    ):
        with running(settings, **environment) as worker:
            wait_until(lambda group: bool(group.assigned), settings, worker)
            done = fhirline(settings, *asked, FHIRLINE_GROUP=settings.group, **KEY)
            assert worker.stop() == 0
        assert done.returncode == 0, done.stderr
        warnings = [line for line in done.stderr.splitlines() if line.startswith("fhirline forget: ")]
        assert len(warnings) == bool(problem), done.stderr
        assert all(f"worker at 127.0.0.1 (group {settings.group}) {problem}" in line for line in warnings)
        assert SECRET not in done.stderr


def test_a_broker_that_names_no_members_is_no_assurance(embedded: RunningBroker) -> None:
    """The embedded broker knows that its group is in use, and not by whom."""
    settings = embedded.settings(session_timeout=6, erasure_key=SECRET, group=f"forget-{uuid4().hex[:8]}")
    with running(settings, **KEY) as worker:
        wait_until(lambda group: group.state == "stable", settings, worker)
        (line,) = without_the_key(settings)
        assert worker.stop() == 0
    assert line.startswith("cannot tell whether worker processes have the erasure key")


def wait_until(condition: Callable[[Group], bool], settings: Settings, worker: Process) -> None:
    """Wait for a condition of the worker's group. A cluster without any group has no coordinator at first."""
    groups, end, found = Groups(settings), time.monotonic() + LIMIT, None
    while found is None or not condition(found):
        assert time.monotonic() < end, found
        assert worker.running, worker.report("has ended")
        with suppress(KafkaRequestFailed):
            found = groups.read((settings.group,))[settings.group]
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
