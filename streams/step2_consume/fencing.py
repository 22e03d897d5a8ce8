"""Ending a worker at once, with nothing committed, so that its supervisor starts it again and the batch is repeated."""

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import structlog

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step3_restore.erasure_list_feed import PAUSE_SHARE

log = structlog.get_logger("worker")

Item = TypeVar("Item")

TICK = 0.1
"""Seconds between two checks of the fence."""

WATCH = 1.0
"""Seconds between two looks at the ticker, and how much longer than the fence the watching thread waits."""

LAST_RESORT = 5.0
"""Seconds after the fence's limit at which faulthandler ends the process."""

YIELD_AFTER = 0.03
"""Seconds of work at a stretch after which heartbeats, fetches and the fence's ticker get a turn."""


def exit_uncommitted(reason: str, **details: Any) -> NoReturn:
    """Log the reason, and end the process at once without committing."""
    log.critical("worker ends without committing", reason=reason, **details)
    os._exit(UNCOMMITTED)


def exit_uncommitted_on(reason: str, error: BaseException) -> NoReturn:
    """Log the error, and end the process at once without committing.

    The messages of our own errors name topics, settings and codes. Others are not logged: they may quote a payload.
    """
    own = type(error).__module__.startswith(("fhirline.streams.", "fhirline.config."))
    exit_uncommitted(reason, error=type(error).__name__, detail=str(error) if own else "see the type")


def exit_uncommitted_after(seconds: float) -> None:
    """End the process without committing unless it has ended in order within so many seconds."""
    late = threading.Timer(
        seconds, exit_uncommitted, ["not ended in order within the stop timeout"], {"seconds": seconds}
    )
    late.daemon = True
    late.start()


def places(frame: FrameType | None, most: int = 5) -> list[str]:
    """Return file and line of a thread's innermost calls, innermost first."""
    if frame is None:
        return []
    calls = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=most, lookup_lines=False)
    return [f"{'/'.join(Path(call.filename).parts[-2:])}:{call.lineno}" for call in calls]


async def yielding_to_loop(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield the items, and give the loop a turn every `YIELD_AFTER` seconds: a slow batch must not look like a pause.

    The clock decides, not the number of items, because their cost differs. A batch that the fence took for a pause
    would be repeated, and taken for a pause again.
    """
    yielded = time.monotonic()
    for item in items:
        if time.monotonic() - yielded > YIELD_AFTER:
            await asyncio.sleep(0)
            yielded = time.monotonic()
        yield item


class Fence:
    """Ends a worker whose event loop stopped for so long that its partitions may have another owner (state.md §6).

    A loop that has stopped cannot check itself: Faust's consumer has a thread of its own, whose heartbeats would keep
    the partitions. So a thread watches the ticker. Code that does not release the interpreter's lock (a regular
    expression, say) stops that thread too. faulthandler's timer, which needs no lock, is the last resort: it ends the
    process with code 1 and a traceback on standard error, file names and lines only.
    """

    def __init__(self, session_timeout: float) -> None:
        self._limit = session_timeout * PAUSE_SHARE
        self._last: float | None = None

    async def tick(self) -> None:
        """Check every `TICK` seconds until cancelled, and have the checks watched meanwhile."""
        ticking = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ticking, threading.get_ident()), name="fence", daemon=True)
        watch.start()
        try:
            while True:
                self.check()
                faulthandler.dump_traceback_later(self._limit + LAST_RESORT, exit=True)
                await asyncio.sleep(TICK)
        finally:
            faulthandler.cancel_dump_traceback_later()
            ticking.set()

    def _watch(self, ended: threading.Event, ticker: int) -> None:
        """End the process if the ticker's thread has stopped. Runs in a thread of its own."""
        while not ended.wait(WATCH):
            paused = time.monotonic() - self._last if self._last is not None else 0.0
            if paused > self._limit + WATCH:
                frame = sys._current_frames().get(ticker)
                exit_uncommitted("the event loop stands still", seconds=round(paused, 1), at=places(frame))

    def check(self) -> None:
        """End the process if the last check was too long ago. Also called just before a batch is produced."""
        now = time.monotonic()
        self._exit_if_paused(now)
        self._last = now

    def _exit_if_paused(self, now: float) -> None:
        paused = now - self._last if self._last is not None else 0.0
        if paused > self._limit:
            exit_uncommitted("paused longer than the group waits", seconds=round(paused, 1))

    def passing(self, records: Iterable[ProducerRecord]) -> Iterator[ProducerRecord]:
        """Yield records on their way to the producer, and check before each: a pause may fall between any two of them.

        These checks do not count as the ticker's: producing must not hide that the loop has stopped.
        """
        for record in records:
            self._exit_if_paused(time.monotonic())
            yield record
