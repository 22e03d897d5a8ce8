"""When a worker must end at once: nothing is committed then, and its supervisor starts it again."""

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

BREATHE_AFTER = 0.03
"""Seconds of work at a stretch, after which heartbeats, fetches and the fence's ticker get their turn."""


def exit_uncommitted(reason: str, **details: Any) -> NoReturn:
    """End the process at once, committing nothing; the supervisor starts it again, and the batch is read again."""
    log.critical("worker ends without committing", reason=reason, **details)
    os._exit(UNCOMMITTED)


def exit_uncommitted_on(reason: str, error: BaseException) -> NoReturn:
    """`exit_uncommitted` of an error.

    Messages of our own errors name topics, settings and codes; others may quote a payload.
    """
    own = type(error).__module__.startswith(("fhirline.streams.", "fhirline.config."))
    exit_uncommitted(reason, error=type(error).__name__, detail=str(error) if own else "see the type")


async def yielding_to_loop(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items, with a turn for everything else on the loop as often as it is due: a slow batch is no pause.

    By the clock, not by the number of items: what an item costs depends on its size, on the validation and on the
    machine, and a batch that counts as a pause is read again, and counts as one again, for ever.
    """
    breathed = time.monotonic()
    for item in items:
        if time.monotonic() - breathed > BREATHE_AFTER:
            await asyncio.sleep(0)
            breathed = time.monotonic()
        yield item


class Fence:
    """Ends a worker whose loop stood still so long that its partitions may have another owner (state.md §6)."""

    def __init__(self, session_timeout: float) -> None:
        self._limit = session_timeout * PAUSE_SHARE
        self._last: float | None = None

    async def tick(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(TICK)

    def check(self) -> None:
        """Called by the ticker, and again just before producing."""
        now = time.monotonic()
        self._look(now)
        self._last = now

    def _look(self, now: float) -> None:
        paused = now - self._last if self._last is not None else 0.0
        if paused > self._limit:
            exit_uncommitted("paused longer than the group waits", seconds=round(paused, 1))

    def passing(self, records: Iterable[ProducerRecord]) -> Iterator[ProducerRecord]:
        """The records on their way to the producer: a pause may begin, and end, between any two of them.

        Only looks: what sends must not hide that the loop stands still.
        """
        for record in records:
            self._look(time.monotonic())
            yield record
