"""Ending a worker at once, with nothing committed, so that its supervisor starts it again and the batch is repeated."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import structlog

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step3_restore.erased import PAUSE_SHARE

log = structlog.get_logger("worker")

Item = TypeVar("Item")

TICK = 0.1
"""Seconds between two checks of the fence."""

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
    """Ends a worker whose event loop stopped for so long that its partitions may have another owner (state.md §6)."""

    def __init__(self, session_timeout: float) -> None:
        self._limit = session_timeout * PAUSE_SHARE
        self._last: float | None = None

    async def tick(self) -> None:
        """Check every `TICK` seconds until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(TICK)

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
