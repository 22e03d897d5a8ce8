"""The limit of concurrent requests, which rises while the server is quick, and else falls (fhir-delivery.md §2)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLOW_SECONDS = 5.0
"""Seconds. An answer that takes longer counts as a sign of too many requests."""
FEWER = 0.5


class Limiter:
    """Slots for requests: one at first, one more with each answer in time up to ``most``, half where it struggles.

    After the first sign of trouble it takes as many answers as there are slots to gain one. Whoever has waited longest
    gets the next slot, and nobody else is woken: hundreds may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = 1.0
        self._troubled = False
        self._taken = 0
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def taken(self) -> int:
        return self._taken

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot, once one is free and no pause is in force."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._give()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():  # else it was cancelled while it waited
                self._taken -= 1
                self._give()

    def answered(self, seconds: float) -> None:
        """Note an answer that the server gave in so many seconds."""
        if seconds > SLOW_SECONDS:
            return self.struggles()
        self._limit = min(float(self._most), self._limit + (1 / self._limit if self._troubled else 1.0))
        self._give()

    def struggles(self, pause: float = 0.0) -> None:
        """Halve the slots, and begin no request for ``pause`` seconds."""
        self._troubled = True
        self._limit = max(1.0, self._limit * FEWER)
        loop = asyncio.get_running_loop()
        if pause and (until := loop.time() + pause) > self._paused_until:
            self._paused_until = until
            loop.call_at(until, self._end_pause, until)

    def _end_pause(self, until: float) -> None:
        if until == self._paused_until:  # else a longer one has begun
            self._paused_until = 0.0
            self._give()

    def _give(self) -> None:
        """Give the free slots to those who have waited longest."""
        while not self._paused_until and self._waiting and self._taken < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
