"""Redrives that the console begins, one at a time, as ``fhirline dead-letters redrive`` does them.

A redrive maps nothing: it reads letters and writes raw records. So it is a thread, beside that of the pages' readings,
which a redrive of a thousand events would keep waiting. It can be stopped before any event. What was sent is marked,
and what was not is left as it was.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.console.jobs import Job
from fhirline.streams.kafka.acl_check import require_privileges
from fhirline.streams.observe.logs import describe_error
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Case, Status
from fhirline.streams.operate.dead_letters.redrive import SEND_AGAIN, Redriver, Report, wait_until_mapped

log = structlog.get_logger()

RATE = 100.0
"""Events a second at most, so that the vendors' own do not wait behind them."""
MAPPED_SECONDS = 30.0
"""Seconds in which workers map what was sent, before the result says that some are not mapped yet."""
STOP_SECONDS = 20.0
"""Seconds that the console waits for Kafka's acknowledgements when it ends. What is not marked is sent again."""
NOTIFY_SECONDS = 0.5
"""Seconds between two updates of a page."""


@dataclass(slots=True, eq=False)
class Redrive(Job):
    """A redrive. ``chosen``: the group's filter. ``cases``: id → vendor of the events that it is to send.

    ``handed``: events that were looked at so far. ``sending``: whether events are being sent, None before that.
    ``mapped``: the events that were sent, as they are when it has ended. ``problem``: why it ended early, else empty.
    """

    chosen: Mapping[str, str]
    key: str
    cases: Mapping[str, str]
    handed: int = 0
    sending: bool | None = None
    report: Report = field(default_factory=Report)
    mapped: list[Case] = field(default_factory=list)
    problem: str = ""
    ended: bool = False
    halt: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        return not self.ended

    @property
    def total(self) -> int:
        return len(self.cases)

    @property
    def done(self) -> int:
        return sum(case.status is Status.DONE for case in self.mapped)

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.mapped if case.status in SEND_AGAIN]

    @property
    def left(self) -> int:
        """Return the number of events that are as they were: the redrive was stopped, or failed, before them."""
        return self.total - len(self.report.sent) - len(self.report.not_sent)


class Redrives:
    """Begins redrives. ``current``: the one that runs, or ended last. Used on the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None
        self.current: Redrive | None = None

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.running

    def begin(self, redrive: Redrive) -> None:
        """Start the thread. The caller has seen that none is running."""
        assert not self.running
        self.current = redrive
        arguments = redrive, asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=arguments, name="redrive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread send no more events, and end once those that it has sent are acknowledged and marked."""
        if self.current is not None and self.current.running:
            self.current.stopping = True
            self.current.halt.set()
            self.current.notify()

    async def close(self) -> None:
        """Stop the thread, and wait for it, but not for a cluster that is away."""
        self.stop()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self, redrive: Redrive, loop: asyncio.AbstractEventLoop) -> None:
        def end() -> None:
            redrive.ended = True
            redrive.notify()

        try:
            self._redrive(redrive, _Notifier(loop, redrive))
        except FhirlineError as error:
            redrive.problem = str(error)
        except Exception as error:  # noqa: BLE001  # a traceback may hold a payload
            log.error("redrive failed", error=describe_error(error))
            redrive.problem = (
                f"A defect of the console ({type(error).__name__}). The log line `redrive failed` says where."
            )
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(end)

    def _redrive(self, redrive: Redrive, notify: "_Notifier") -> None:
        require_privileges(self._settings, "operator")  # what could not be marked would be sent again
        with Board(self._settings, sorted({*redrive.cases.values()})) as board:
            known = board.read()  # the index of the pages may be some seconds old
            due = [
                case
                for case in known
                if case.id in redrive.cases and case.status in SEND_AGAIN and not case.answers(redrive.key)
            ]
            redrive.cases = {case.id: case.last.vendor for case in due}
            redriver = Redriver(self._settings, redrive.key, RATE)
            redrive.report, redrive.sending = redriver.report, True
            redriver.settle(known)

            def handed() -> None:
                redrive.handed += 1
                notify()

            redriver.send(due, handed, redrive.halt.is_set)
            redrive.sending = False
            notify(at_once=True)
            redrive.mapped = wait_until_mapped(board, redriver, MAPPED_SECONDS, redrive.halt.wait)


class _Notifier:
    """Notify the pages, from the thread, that there is something new, at most every `NOTIFY_SECONDS`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, redrive: Redrive) -> None:
        self._call: Callable[[], object] = lambda: loop.call_soon_threadsafe(redrive.notify)
        self._next = 0.0

    def __call__(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now >= self._next:
            self._next = now + NOTIFY_SECONDS
            with suppress(RuntimeError):  # the loop was closed
                self._call()
