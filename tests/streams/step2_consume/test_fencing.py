"""A paused worker ends, a slow one does not."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import pytest

from fhirline.streams.step2_consume import fencing as fence
from fhirline.streams.step2_consume.fencing import TICK, YIELD_AFTER, Fence, yielding_to_loop

SESSION = 1.0
ITEM = YIELD_AFTER * 2
"""Seconds of work on one item. A batch of them takes twice as long as the loop may stop."""

ITEMS = int(2 * SESSION / ITEM)


class Ended(Exception):
    """Replaces the end of the process."""


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_uncommitted(reason: str, **details: Any) -> NoReturn:
        raise Ended(reason)

    monkeypatch.setattr(fence, "exit_uncommitted", exit_uncommitted)


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def slow_batch(worker: Fence) -> None:
    async for _ in yielding_to_loop(range(ITEMS)):
        work(ITEM)
    worker.check()


async def batch_that_never_yields(worker: Fence) -> None:
    for _ in range(ITEMS):
        work(ITEM)
    worker.check()


async def pause_between_two_records(worker: Fence) -> None:
    records: list[Any] = [object(), object()]
    for _ in worker.passing(records):
        work(SESSION)


def fenced(batch: Callable[[Fence], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        worker = Fence(SESSION)
        ticker = asyncio.ensure_future(worker.tick())
        await asyncio.sleep(TICK)
        try:
            await batch(worker)
        finally:
            ticker.cancel()

    asyncio.run(run())


def test_a_slow_batch_is_no_pause() -> None:
    fenced(slow_batch)


@pytest.mark.parametrize("batch", [batch_that_never_yields, pause_between_two_records])
def test_a_loop_that_stopped_ends_the_worker(batch: Callable[[Fence], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(Ended, match="paused"):
        fenced(batch)
