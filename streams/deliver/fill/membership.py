"""Being the only process that delivers: membership in the delivery's consumer group, with all partitions.

A fill and a running `fhirline deliver` would send two values of one resource at once, and the older one might be the
last. So a fill joins the group that delivers, sends only while it has all partitions, and ends where another process
joins. What it has sent until then, and noted, stays true.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import structlog

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.group_reader import Assignment, Reader
from fhirline.streams.step3_restore.client_id import client_id
from fhirline.streams.step3_restore.erasure_list import hashing
from fhirline.topics.declared import BUNDLE

log = structlog.get_logger("deliver")

DRAIN_SECONDS = 10.0
PATIENCE = 4
"""Sessions without partitions after which the group is joined again."""
STEP_SECONDS = 0.02


class AnotherDelivers(FhirlineError):
    """Another process is in the delivery's group. ``begun``: whether the fill may have sent something."""

    def __init__(self, begun: bool = True) -> None:
        super().__init__("another process delivers")
        self.begun = begun


class Membership:
    """The group's only member. Use as an async context manager; `owned` once it is entered."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._client_id = client_id("deliver", hashing(settings))
        self._partitions = settings.partitions
        self._patience = PATIENCE * settings.session_timeout
        self._reader = self._joined()
        self._polling: asyncio.Task[None] | None = None
        self.lost = False
        self.in_flight = 0
        """Number of requests in flight of the process that holds the membership; a partition is handed over at 0."""

    async def __aenter__(self) -> "Membership":
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    def _joined(self) -> Reader:
        return Reader(self._settings, "deliver", BUNDLE, self._group, self._client_id, self._revoked, self._drain)

    async def _leave(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await self._reader.close()

    async def owned(self, stopped: asyncio.Event) -> None:
        """Wait until this process has all partitions, or is stopped. Raises AnotherDelivers.

        It joins again where it got none for some sessions: a broker may wait for a member that was killed.
        """
        joined = time.monotonic()
        while len(self._reader.assignments) < self._partitions and not stopped.is_set():
            if self._reader.assignments or self.lost:  # a group of one is assigned all at once
                raise AnotherDelivers(begun=False)
            assert self._polling is not None
            if self._polling.done():
                self._polling.result()
            if time.monotonic() - joined > self._patience:
                log.info("no partitions yet; joining the group again", group=self._group)
                await self._leave()
                self._reader, joined, self.lost = self._joined(), time.monotonic(), False
                self._polling = asyncio.create_task(self._poll())
            await asyncio.sleep(STEP_SECONDS)

    def require(self) -> None:
        """Raise AnotherDelivers where a partition went away."""
        if self.lost:
            raise AnotherDelivers

    def finish(self, versions: Mapping[int, int]) -> None:
        """Note all Bundles below the versions as finished; they are committed when the context ends."""
        self.require()
        for assignment in self._reader.assignments:
            assignment.finish_before(versions.get(assignment.partition, 0))

    async def _poll(self) -> None:
        while True:
            await self._reader.read(0)

    def _revoked(self, _: Iterable[Assignment]) -> None:
        self.lost = True

    def _drain(self, ended: Iterable[Assignment]) -> None:
        """Note the loss, in the consumer's thread, and wait until nothing is in flight."""
        self.lost = True
        until = time.monotonic() + DRAIN_SECONDS
        while self.in_flight and time.monotonic() < until:
            time.sleep(STEP_SECONDS)
