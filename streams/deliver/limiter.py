"""How many requests a server gets at once: more while it is quick, fewer where it is not (fhir-delivery.md §2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLOW_SECONDS = 5.0
"""An answer that takes longer counts as a sign of too many requests."""
FEWER = 0.5


class Limiter:
    """Slots for requests: one at first, one more with each answer in time up to ``most``, half where it struggles.

    After the first sign of trouble it takes as many answers as there are slots to gain one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = 1.0
        self._troubled = False
        self._taken = 0
        self._paused_until = 0.0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def taken(self) -> int:
        return self._taken

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot, once one is free and no pause is in force."""
        loop = asyncio.get_running_loop()
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._taken < self.limit)
                if (left := self._paused_until - loop.time()) <= 0:
                    break
                self._changed.release()
                try:
                    await asyncio.sleep(left)
                finally:
                    await self._changed.acquire()
            self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            await self._notify()

    async def answered(self, seconds: float) -> None:
        """Note an answer that the server gave in so many seconds."""
        if seconds > SLOW_SECONDS:
            return self.struggles()
        self._limit = min(float(self._most), self._limit + (1 / self._limit if self._troubled else 1.0))
        await self._notify()

    def struggles(self, pause: float = 0.0) -> None:
        """Halve the slots, and begin no request for ``pause`` seconds."""
        self._troubled = True
        self._limit = max(1.0, self._limit * FEWER)
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + pause)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
