"""Batches of events: their size, their wait, and what is taken beyond them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

import pytest

from fhirline.streams.step2_consume.faust.batching import MOST_BYTES, take_batches
from tests.support.waiting import LIMIT

WITHIN = 0.05
"""Seconds, where a batch must not wait for more."""

PATIENT = LIMIT
"""Seconds, where a batch gets all that it waits for: however long the machine takes, it is never sent on half full."""


class Stream:
    """Replaces Faust's stream. Its events are numbers from a queue, which None ends."""

    def __init__(self, *events: int | None) -> None:
        self.enable_acks = True
        self.taken = 0
        self.begun = asyncio.Event()
        self.closed = False
        self.queue: asyncio.Queue[int | None] = asyncio.Queue()
        for event in events:
            self.queue.put_nowait(event)

    async def events(self) -> AsyncIterator[int]:
        self.begun.set()
        try:
            while (event := await self.queue.get()) is not None:
                self.taken += 1
                yield event
        finally:
            self.closed = True


def batches_of(stream: "Stream", most: int, within: float, size: int = 0) -> AsyncGenerator[list[Any], None]:
    return take_batches(stream, most, within, lambda _: size)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT):
            await test

    asyncio.run(bounded())


async def others_ended() -> None:
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_events_are_taken_in_order_up_to_the_limit_until_the_stream_ends(most: int) -> None:
    async def test() -> None:
        stream = Stream(*range(6), None)
        found = [batch async for batch in batches_of(stream, most, PATIENT)]
        assert found == [[*range(first, first + most)] for first in range(0, 6, most)]
        assert stream.closed
        assert not stream.enable_acks

    run(test())


@pytest.mark.parametrize(
    ("size", "each"), [(MOST_BYTES * 2, 1), (MOST_BYTES, 1), (MOST_BYTES - 1, 2), (MOST_BYTES // 3, 4)]
)
def test_a_batch_ends_with_the_event_that_fills_its_bytes(size: int, each: int) -> None:
    async def test() -> None:
        found = [batch async for batch in batches_of(Stream(*range(8), None), 500, PATIENT, size)]
        assert found == [[*range(first, first + each)] for first in range(0, 8, each)]

    run(test())


def test_an_incomplete_batch_is_dropped_when_the_stream_ends() -> None:
    """It is not acknowledged, so it is read again."""

    async def test() -> None:
        assert [batch async for batch in batches_of(Stream(1, 2, 3, None), 2, PATIENT)] == [[1, 2]]

    run(test())


def test_a_batch_that_is_not_full_waits_for_its_time_only() -> None:
    """However steadily others come: otherwise a busy stream would fill every batch."""

    async def test() -> None:
        stream = Stream(0)

        async def trickle() -> None:
            for number in range(1, 1000):
                await asyncio.sleep(WITHIN / 5)
                stream.queue.put_nowait(number)

        trickling = asyncio.ensure_future(trickle())
        batches = batches_of(stream, 1000, WITHIN)
        first, second = await anext(batches), await anext(batches)
        trickling.cancel()
        await batches.aclose()
        assert first + second == list(range(len(first) + len(second)))
        assert len(first) + len(second) < 1000

    run(test())


def test_at_most_one_event_is_taken_beyond_the_batch() -> None:
    """Events in Faust's queue count as not begun, so that another worker gets them after a rebalance."""

    async def test() -> None:
        stream = Stream(*range(10))
        batches = batches_of(stream, 3, PATIENT)
        assert await anext(batches) == [0, 1, 2]
        for _ in range(20):  # turns of the loop, in each of which another event could be taken
            await asyncio.sleep(0)
        assert stream.taken == 4
        assert await anext(batches) == [3, 4, 5]
        await batches.aclose()

    run(test())


def test_waiting_for_the_first_event_sets_no_timer() -> None:
    async def test() -> None:
        stream = Stream()
        loop = asyncio.get_running_loop()
        timers: list[float] = []
        at = loop.call_at

        def call_at(when: float, *args: Any, **named: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return at(when, *args, **named)

        loop.call_at = call_at  # type: ignore[assignment, method-assign]  # a spy
        waiting = asyncio.ensure_future(anext(batches_of(stream, 3, WITHIN)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not timers
        stream.queue.put_nowait(1)
        assert await waiting == [1]
        assert len(timers) == 1  # the one event's time

    run(test())


def test_cancelling_the_wait_ends_all_tasks() -> None:
    async def test() -> None:
        stream = Stream()
        waiting = asyncio.ensure_future(anext(batches_of(stream, 3, WITHIN)))
        await stream.begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await others_ended()
        assert stream.closed

    run(test())


def test_closing_within_a_batch_ends_all_tasks() -> None:
    async def test() -> None:
        stream = Stream(1)
        batches = batches_of(stream, 3, WITHIN)
        assert await anext(batches) == [1]
        await batches.aclose()
        await others_ended()
        assert stream.closed

    run(test())


def test_an_error_of_the_stream_is_raised() -> None:
    class Broken(Stream):
        async def events(self) -> AsyncIterator[int]:
            yield 1
            raise ValueError("the stream's own")

    async def test() -> None:
        with pytest.raises(ValueError, match="the stream's own"):
            async for _ in batches_of(Broken(), 3, WITHIN):
                pass

    run(test())
