"""The worker on a real broker: killed, stopped, and started without topics."""

import os
import random
import re
import signal
import time

import pytest

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.kafka.brokers import RunningBroker, also_on_apache, create_topics
from tests.support.running_worker import NOTHING, running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed


@pytest.mark.long  # tests/crash kills workers too, and always
@also_on_apache
def test_killed_at_random_moments_nothing_is_lost(
    own_broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL within batches, repeated: the same last value under every key, folds included."""
    settings = own_broker.settings(session_timeout=6)
    kills, rng = 2, random.Random(7)
    raws = produce(settings, events(400, seed=1))
    expected = undisturbed(settings, raws)
    store = Store(settings)
    try:
        for kill in range(kills):
            with running(settings, FHIRLINE_BATCH_SIZE="50") as worker:
                seen, end = sum(store.writes.values()), time.monotonic() + LIMIT
                moment = seen + rng.randint(100, 1_000)
                while sum(store.writes.values()) < moment:
                    assert time.monotonic() < end, f"kill {kill}\n{worker.report('is stuck')}"
                    store.read(0.05)
                worker.kill()
        with running(settings) as worker:
            wait_until_as(expected, store, worker)
        store.read_to_the_end()
        assert store.differences(expected) == NOTHING
        assert all(len(partitions) == 1 for partitions in store.partitions.values()), (
            "a key never changes its partition"
        )
        again = sum(count - 1 for count in store.writes.values())
        with capsys.disabled():
            print(
                f"\n{own_broker.kind}: {len(raws)} raw events, {kills} kills: {len(expected)} keys, "
                f"{store.differences(expected)}, "
                f"{again} of {sum(store.writes.values())} records written again (updates and repeats)"
            )
    finally:
        store.close()


@also_on_apache
def test_sigterm_ends_a_worker_in_order(own_broker: RunningBroker) -> None:
    """SIGTERM under load: exit code 0, and the next worker completes the rest."""
    settings = own_broker.settings(session_timeout=6)
    raws = produce(settings, events(300, seed=5))
    expected = undisturbed(settings, raws)
    store = Store(settings)
    try:
        with running(settings, FHIRLINE_BATCH_SIZE="20") as worker:
            end = time.monotonic() + LIMIT
            while not store.writes:
                assert time.monotonic() < end, worker.report("is stuck")
                store.read(0.05)
            worker.stop()
            assert worker.exit_code == 0, worker.report("did not end in order")
            assert re.findall(r'"event":"(worker \w+)"', worker.output) == ["worker stopping", "worker stopped"]
            assert "Stopping..." not in worker.output, "Faust's own lines are for FHIRLINE_LOG_LEVEL=debug"
        with running(settings) as worker:
            wait_until_as(expected, store, worker)
    finally:
        store.close()


def test_a_worker_that_cannot_end_in_order_ends_uncommitted_in_time() -> None:
    """Its broker is frozen: nothing can be committed, and no group can be left."""
    with EmbeddedBroker() as broker:
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        create_topics(broker.bootstrap)
        with running(settings, FHIRLINE_STOP_TIMEOUT="1") as worker:
            worker.wait_for("partitions assigned")
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                os.kill(worker.pid, signal.SIGTERM)
                assert worker.wait() == UNCOMMITTED, worker.report("ended with another code")
            finally:
                os.kill(broker.pid, signal.SIGCONT)
        assert worker.wait_for("worker ends without committing")["reason"].startswith("not ended in order")


def test_missing_topics_are_named_at_start() -> None:
    with EmbeddedBroker() as broker:
        settings = RunningBroker("embedded", broker.bootstrap).settings()
        with running(settings) as worker:
            assert worker.wait() == 2
            assert "is missing: run `fhirline topics apply`" in worker.report("said")
