"""A paused worker ends, a slow one does not."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import pytest

from fhirline.streams.step2_consume import fencing as fence
from fhirline.streams.step2_consume.fencing import YIELD_AFTER, Fence, yielding_to_loop

SESSION = 1.0
ITEM = YIELD_AFTER * 2
"""Seconds of work on one item. A batch of them takes twice as long as the loop may stop."""

ITEMS = int(2 * SESSION / ITEM)


class Ended(Exception):
    """Replaces the end of the process."""


class Clock:
    """The fence's time and the event loop's. Only work lets it pass, so that a busy machine is no pause."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(fence, "time", made)
    return made


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_uncommitted(reason: str, **details: Any) -> NoReturn:
        raise Ended(reason)

    monkeypatch.setattr(fence, "exit_uncommitted", exit_uncommitted)


async def slow_batch(worker: Fence, clock: Clock) -> None:
    async for _ in yielding_to_loop(range(ITEMS)):
        clock.now += ITEM
    worker.check()


async def batch_that_never_yields(worker: Fence, clock: Clock) -> None:
    for _ in range(ITEMS):
        clock.now += ITEM
    worker.check()


async def pause_between_two_records(worker: Fence, clock: Clock) -> None:
    records: list[Any] = [object(), object()]
    for _ in worker.passing(records):
        clock.now += SESSION


Batch = Callable[[Fence, Clock], Coroutine[Any, Any, None]]


def fenced(batch: Batch, clock: Clock) -> None:
    async def run() -> None:
        asyncio.get_running_loop().time = clock.monotonic  # type: ignore[method-assign]  # timers go by it too
        worker = Fence(SESSION)
        ticker = asyncio.ensure_future(worker.tick())
        await asyncio.sleep(0)  # the first tick
        try:
            await batch(worker, clock)
        finally:
            ticker.cancel()

    asyncio.run(run())


def test_a_slow_batch_is_no_pause(clock: Clock) -> None:
    fenced(slow_batch, clock)


@pytest.mark.parametrize("batch", [batch_that_never_yields, pause_between_two_records])
def test_a_loop_that_stopped_ends_the_worker(batch: Batch, clock: Clock) -> None:
    with pytest.raises(Ended, match="paused"):
        fenced(batch, clock)
