"""Restore a topic's cache for the partitions of an assignment, off the event loop (state.md §5)."""

import asyncio
import time
from typing import Generic, TypeVar

import structlog

from fhirline.streams.step2_consume.fencing import exit_uncommitted_on
from fhirline.streams.step3_restore.topic_cache import Held, TopicCache

log = structlog.get_logger("worker")

H = TypeVar("H", bound=Held)


class Restoring(Generic[H]):
    """Restores the partitions of a cache before they are used.

    ``lock`` is held while the cache is read or changed: a thread that restores must not meet the mapping of a batch.
    """

    def __init__(self, cache: TopicCache[H]) -> None:
        self._cache = cache
        self.lock = asyncio.Lock()

    async def prepare(self) -> None:
        """Restore the partitions just assigned, so that the first batch need not wait. Ends the process on failure."""
        try:
            async with self.lock:
                await self.restored(set())
        except Exception as error:  # noqa: BLE001  # without state nothing may be mapped
            exit_uncommitted_on("state could not be restored", error)

    async def restored(self, partitions: set[int]) -> dict[int, H]:
        """Return what the cache has of these partitions, restored. To be called with the lock held."""
        cache = self._cache
        # All assigned partitions at once: the consumer's first answer takes longer than most restores.
        while missing := cache.unread() | {partition for partition in partitions if cache.ready(partition) is None}:
            started = time.monotonic()
            read = await asyncio.to_thread(cache.restore, missing)
            seconds = round(time.monotonic() - started, 3)
            log.info("state restored", topic=cache.topic, partitions=len(missing), records=read, seconds=seconds)
        return {partition: cache.partition(partition) for partition in partitions}

    async def read_on(self) -> None:
        """Read what other writers have written, where a look is due. To be called with the lock held."""
        cache = self._cache
        if cache.look_due and (behind := await asyncio.to_thread(cache.partitions_behind)):
            read = await asyncio.to_thread(cache.restore, behind)
            log.info("state read on", topic=cache.topic, partitions=len(behind), records=read)
