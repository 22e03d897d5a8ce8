"""A worker that a busy machine ends is started again; any other end stays one."""

import os
import signal
import time

import pytest

from fhirline.streams.demo.stack import StackFailed
from tests.support.kafka.brokers import RunningBroker
from tests.support.running_worker import OF_A_BUSY_MACHINE, running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

SESSION = 6


@pytest.mark.long
def test_a_worker_that_was_paused_goes_on_as_another_process(own_broker: RunningBroker) -> None:
    settings = own_broker.settings(session_timeout=SESSION)
    expected = undisturbed(settings, produce(settings, events(20, seed=3)))
    store = Store(settings)
    with running(settings) as worker:
        worker.wait_for("partitions assigned")
        paused = worker.pid
        os.kill(paused, signal.SIGSTOP)
        time.sleep(SESSION)  # the pause itself
        os.kill(paused, signal.SIGCONT)
        wait_until(lambda: worker.running and worker.pid != paused, lambda: worker.report("goes on"))
        wait_until_as(expected, store, worker)
        assert OF_A_BUSY_MACHINE.search(worker.output)
    store.close()


def test_a_worker_that_ends_otherwise_stays_ended(own_broker: RunningBroker) -> None:
    settings = own_broker.settings(session_timeout=SESSION)
    with running(settings, FHIRLINE_PARTITIONS="5") as worker, pytest.raises(StackFailed, match="exit code 2"):
        worker.wait_for("partitions assigned")
    assert not worker.running


@pytest.mark.parametrize(
    ("line", "busy"),
    [
        ('{"reason":"paused longer than the group waits","seconds":4.0,"event":"…"}', True),
        ('{"reason":"the event loop stands still","seconds":9.1}', True),
        (
            '{"reason":"a batch could not be delivered","error":"PublishFailed",'
            '"detail":"fhir.r4.Appointment: _MSG_TIMED_OUT; dead-letter.altibbi: _MSG_TIMED_OUT","event":"…"}',
            True,
        ),
        (
            '{"reason":"a batch could not be delivered","error":"PublishFailed",'
            '"detail":"fhir.r4.Appointment: _MSG_TIMED_OUT; fhir.r4.Patient: MSG_SIZE_TOO_LARGE","event":"…"}',
            False,
        ),
        ('{"reason":"a patient was erased under a batch"}', False),
    ],
)
def test_why_a_busy_machine_ends_a_worker(line: str, busy: bool) -> None:
    assert bool(OF_A_BUSY_MACHINE.search(line)) == busy
