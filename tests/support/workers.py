"""A consumer group's workers under a supervisor that restarts every process that ends, as a deployment does."""

import os
import signal
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import orjson

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.demo.stack import Process, StackFailed
from fhirline.topics.declared import ENRICHED
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

BACK_OFF = 0.5
DAY = 86_400.0
TRACEBACK = 1
"""Python's own exit code: a defect, which no restart fixes."""


class Worker:
    """A member of the group: a process, which is replaced whenever it ends, until the member is removed."""

    def __init__(self, name: str, group: "Workers", command: str = "worker") -> None:
        self.name = name
        self._command = command
        self._group = group
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self.starts = 0
        self.process = self._start()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _start(self) -> Process:
        self.starts += 1
        return Process(self.name, self._command, environment=self._group.environment, echo=self._group.note)

    def _supervise(self) -> None:
        while True:
            code = self.process.wait(DAY)
            if self._leaving.wait(BACK_OFF):
                return
            with self._changed:
                self._group.exits[code] += 1
                self.process = self._start()
                self._changed.notify_all()

    def wait_assigned(self) -> None:
        """Wait until this member has partitions. A process that ends before that is replaced."""
        until = time.monotonic() + LIMIT
        while True:
            process = self.process
            try:
                process.wait_for("partitions assigned", timeout=max(0.1, until - time.monotonic()))
                return
            except StackFailed:
                if time.monotonic() > until or process.exit_code == TRACEBACK:
                    raise
                self.wait_restarted(process)

    @property
    def running(self) -> bool:
        """Tell whether the member goes on. A process that ended is replaced, unless a defect ended it."""
        return not self._group.exits[TRACEBACK]

    def report(self, what: str) -> str:
        return f"{self.process.report(what)}\n{self._group}"

    def wait_ended(self, process: Process | None = None) -> int:
        """Wait until the process has ended, and return its exit code."""
        return (process or self.process).wait(LIMIT)

    def wait_restarted(self, process: Process) -> None:
        """Wait until another process has replaced this one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.process is not process, LIMIT), process.report(
                "was not replaced"
            )

    def kill(self) -> None:
        """Send SIGKILL, and return when the next process has started."""
        process = self.process
        process.kill()
        self.wait_restarted(process)

    def signal(self, number: signal.Signals) -> Process:
        process = self.process
        os.kill(process.pid, number)
        return process

    def leave(self) -> tuple[int, float]:
        """Stop the process by SIGTERM without a successor. Returns its exit code and the seconds it took."""
        self._leaving.set()
        started = time.monotonic()
        self.process.stop()
        seconds = time.monotonic() - started
        while self._thread.is_alive():  # it may just have been starting another one
            self.process.stop()
            self._thread.join(0.1)
        self._group.here.remove(self)
        return self.process.exit_code or 0, seconds


class Workers:
    """The group.

    ``exits`` counts the exit codes of processes that were replaced (negative: the signal), ``reasons`` why any of them
    ended itself with 70.
    """

    def __init__(self, settings: Settings, count: int = 0, **more: str) -> None:
        if settings.encryption:
            more = {**more, "FHIRLINE_ENCRYPTION": settings.encryption.get_secret_value()}
        self.environment = environment(
            settings.bootstrap,
            FHIRLINE_GROUP=settings.group,
            FHIRLINE_SESSION_TIMEOUT=f"{settings.session_timeout:g}",
            FHIRLINE_PARTITIONS=str(settings.partitions),
            FHIRLINE_REPLICATION_FACTOR=str(settings.replication_factor),
            **more,
        )
        self.exits: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()
        """Log lines of all processes, by event name."""
        self.last_resorts = 0
        """Processes that the fence's last resort ended (`streams.step2_consume.fencing.Fence`), with code 1."""
        self.restored = 0
        """Records of state topics that all processes have read."""
        self.passed_over = 0
        """Records that Faust had dropped before its agents, and that were read again
        (`streams.step2_consume.faust.offsets`)."""
        self._assigned: dict[str, int] = {}
        self._partitions = settings.partitions * (len(load_vendors(settings.vendors_file).names) + len(ENRICHED))
        self.here: list[Worker] = []
        self._count = count
        self._names = 0

    def add(self, command: str = "worker") -> Worker:
        self._names += 1
        self.here.append(worker := Worker(f"{command}-{self._names}", self, command))
        return worker

    def note(self, line: str) -> None:
        text = line.partition(": ")[2]
        if text.startswith("Timeout ("):
            self.last_resorts += 1
        if not text.startswith("{"):
            return
        event = orjson.loads(text)
        self.logged[event.get("event")] += 1
        if event.get("event") == "worker ends without committing":
            errors = sorted({part.rpartition(": ")[2] for part in event.get("detail", "").split("; ")})
            self.reasons[" ".join([event["reason"], *errors]).strip()] += 1
        if event.get("event") == "partitions assigned":
            self._assigned[line.partition(": ")[0]] = len(event["partitions"])
        if event.get("event") == "state restored":
            self.restored += event["records"]
        if event.get("event") == "records that were passed over are read":
            self.passed_over += event["records"]

    def wait_owns_all(self, worker: Worker) -> None:
        """Wait until the last assignment of this worker has every partition."""
        until = time.monotonic() + LIMIT
        while self._assigned.get(worker.name, 0) < self._partitions:
            assert time.monotonic() < until, worker.process.report("does not own all partitions")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self.add()
            for worker in self.here:
                worker.wait_assigned()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        for worker in [*self.here]:
            if worker.process.running:
                worker.signal(signal.SIGCONT)  # a paused process does not receive SIGTERM
            worker.leave()

    def __str__(self) -> str:
        ends = ", ".join(f"{count} x {code}" for code, count in sorted(self.exits.items())) or "none"
        why = "".join(f"\n    {count} x 70: {reason}" for reason, count in self.reasons.items())
        lost = f"\n  records that Faust had dropped, and that were read again: {self.passed_over}"
        return f"worker processes that ended and were started again by the supervisor, by exit code: {ends}{why}{lost}"
