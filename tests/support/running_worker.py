"""One worker as a process that a test talks to, and the wait until the topics hold what its events make."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.config.settings import Settings
from fhirline.streams.demo.stack import START_SECONDS, Process, StackFailed
from tests.support.processes import Command
from tests.support.waiting import LIMIT
from tests.support.workload import Store

NOTHING = {"missing": 0, "differing": 0, "unexpected": 0}
OF_A_BUSY_MACHINE = re.compile(
    r'"reason":"(?:paused longer than the group waits|the event loop stands still'
    r'|a batch could not be delivered","error":"PublishFailed","detail":"(?:[^"]+: _MSG_TIMED_OUT(?:; )?)+)"'
)
"""Why a worker ends uncommitted where it, or its broker, got no time for most of a session."""


class WorkerCommand(Command):
    """A worker, which is started again where a busy machine has ended it, as its supervisor does.

    That loses nothing and is no failure of a test. A worker that ends for any other reason stays ended.
    """

    @property
    def running(self) -> bool:
        return super().running or self._started_again()

    def wait_for(self, event: str, timeout: float = START_SECONDS) -> dict[str, Any]:
        while True:
            try:
                return super().wait_for(event, timeout)
            except StackFailed:
                if super().running or not self._started_again():
                    raise

    def _started_again(self) -> bool:
        ended = [line for line in self.printed if '"event":"worker ends without committing"' in line]
        if self._process.poll() != UNCOMMITTED or not ended or not OF_A_BUSY_MACHINE.search(ended[-1]):
            return False
        self.start_again()
        return True


@contextmanager
def running(settings: Settings, **more: str) -> Iterator[WorkerCommand]:
    """Run a worker until the context ends."""
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_GROUP": settings.group,
        "FHIRLINE_SESSION_TIMEOUT": f"{settings.session_timeout:g}",
        "FHIRLINE_LOG_FORMAT": "json",
        **more,
    }
    process = WorkerCommand("worker", environ=environment)
    try:
        yield process
    finally:
        process.stop()


def wait_until_as(expected: dict[str, bytes], store: Store, worker: Process) -> None:
    """Wait until the topics hold these last values, by key, and nothing else."""
    end = time.monotonic() + LIMIT
    while store.differences(expected) != NOTHING:
        assert time.monotonic() < end, f"{store.different(expected)}\n{worker.report('is')}"
        assert worker.running, worker.report("has ended")
        store.read()
