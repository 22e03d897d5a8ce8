"""The slots of requests: how many, who gets them, and when."""

import asyncio

from fhirline.streams.deliver.limiter import SLOW_SECONDS, Limiter
from tests.support.waiting import LIMIT


async def _holding(limiter: Limiter, name: str, begun: list[str], done: asyncio.Event) -> None:
    async with limiter.slot():
        begun.append(name)
        await done.wait()


async def _settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_whoever_has_waited_longest_is_next_and_answers_in_time_make_slots() -> None:
    async def run() -> None:
        limiter, begun = Limiter(3), list[str]()
        ends = {name: asyncio.Event() for name in "abcdef"}
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            for name, end in ends.items():
                tasks.create_task(_holding(limiter, name, begun, end))
            await _settled()
            assert begun == ["a"]
            limiter.answered(0.1)
            await _settled()
            assert begun == ["a", "b"]
            ends["b"].set()
            await _settled()
            assert begun == ["a", "b", "c"]
            limiter.answered(0.1)
            limiter.answered(0.1)
            await _settled()
            assert (begun, limiter.limit, limiter.taken) == (["a", "b", "c", "d"], 3, 3)
            limiter.answered(SLOW_SECONDS + 1)
            ends["a"].set()
            ends["c"].set()
            await _settled()
            assert (begun, limiter.limit, limiter.taken) == (["a", "b", "c", "d"], 1, 1)
            for end in ends.values():
                end.set()
        assert (begun, limiter.taken) == (list("abcdef"), 0)

    asyncio.run(run())


def test_a_pause_holds_all_and_a_longer_one_counts() -> None:
    async def run() -> None:
        loop, limiter, begun, end = asyncio.get_running_loop(), Limiter(3), list[str](), asyncio.Event()
        end.set()
        at = loop.time()
        limiter.struggles(0.4)
        limiter.struggles(0.1)
        limiter.struggles()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            tasks.create_task(_holding(limiter, "a", begun, end))
            tasks.create_task(_holding(limiter, "b", begun, end))
            await _settled()
            assert begun == []
        assert (begun, limiter.taken) == (["a", "b"], 0)
        assert loop.time() - at >= 0.4

    asyncio.run(run())


def test_whoever_is_cancelled_takes_no_slot_along() -> None:
    """One is cancelled while it waits, one when it has the slot and has not begun, and one that has begun."""

    async def run() -> None:
        limiter, begun, end = Limiter(1), list[str](), asyncio.Event()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            names = ("first", "waiting", "called", "last")
            made = [tasks.create_task(_holding(limiter, name, begun, end)) for name in names]
            first, waiting, called, last = made
            await _settled()
            waiting.cancel()
            await _settled()
            limiter.answered(SLOW_SECONDS + 1)
            first.cancel()
            await asyncio.sleep(0)
            assert (begun, limiter.taken) == (["first"], 1)
            called.cancel()
            await _settled()
            assert (begun, limiter.taken) == (["first", "last"], 1)
            last.cancel()
        assert limiter.taken == 0

    asyncio.run(run())
