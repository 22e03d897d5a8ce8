"""Threads for what waits or computes beside the event loop: few of them, and a queue that does not grow without end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from aiohttp import web

P = ParamSpec("P")
R = TypeVar("R")

RETRY_SECONDS = 5
BUSY = "Others are being answered, and too many wait already. Try again in a few seconds; nothing was done.\n"


class Threads:
    """Runs calls in their order, ``number`` at once. ``waiting``: how many may wait. Used on the event loop only."""

    def __init__(self, name: str, number: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(number, thread_name_prefix=name)
        self._most = number + waiting
        self._taken = 0

    def require_free(self) -> None:
        """Raise HTTPServiceUnavailable where too many calls wait. Ask before anything is written about a call."""
        if self._taken >= self._most:
            raise web.HTTPServiceUnavailable(text=BUSY, headers={"Retry-After": str(RETRY_SECONDS)})

    async def run(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a call. Raises HTTPServiceUnavailable where too many wait."""
        self.require_free()
        return await self.go_on(call, *arguments, **named)

    async def go_on(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a further call of what was begun with `run`. It waits like others, and is not refused."""
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*arguments, **named))
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Wait for the calls that run. Those that wait are given up: nobody is answered any more."""
        self._executor.shutdown(cancel_futures=True)
