"""Doing one thing for many items, several of them at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


async def for_all(items: Iterable[Item], do: Callable[[Item], Awaitable[None]], at_once: int) -> None:
    """Await ``do`` for each item, at most ``at_once`` of them at a time. Items are taken as there is room for them.

    The first exception cancels all others, and is raised as itself.
    """
    slots = asyncio.Semaphore(at_once)

    async def done(item: Item) -> None:
        try:
            await do(item)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            for item in items:
                await slots.acquire()
                tasks.create_task(done(item))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
