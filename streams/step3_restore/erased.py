"""Following ``normalizer.erased``: what a process that maps must know, and how old its knowledge may be.

The invariant: **nothing is delivered on knowledge of the erased that is older than `LOOK_SECONDS`**, and where the
topic cannot be read, nothing is. A worker looks before it maps a batch, which may take long, and again before it
delivers it. So whoever writes a block knows by when every worker heeds it: after that time, and the time that a
delivery already under way may take (`settled_after`), nothing of the patient is written any more. `forget` keeps
looking until then.
"""

import asyncio
import time
from contextlib import suppress

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step3_restore.block import Erased, hashing
from fhirline.topics.declared import ERASED

LOOK_SECONDS = 2.0
HANDING_SECONDS = 5.0
"""Far longer than a batch's records take on their way into the producer; a worker that stands still for longer is ended
by its `Fence`."""
FLUSH_SECONDS = 2.0
PAUSE_SHARE = 0.6
"""Of the session timeout: the longest pause that a worker survives (step2, `Fence`)."""


class ErasedSince(ConfigurationError):
    """Mapped events are older than an erasure."""


def settled_after(settings: Settings) -> float:
    """Seconds after which everything has arrived that a worker could still write without heeding a new block."""
    paused = settings.session_timeout * PAUSE_SHARE
    return (
        LOOK_SECONDS
        + max(HANDING_SECONDS, paused)
        + max(settings.delivery_timeout, settings.gateway_delivery_timeout)
        + FLUSH_SECONDS
    )


class Follower:
    """The erased, kept up to date. Blocking: from an event loop, call `refresh` in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.erased = Erased(hashing(settings))
        self._settings = settings
        self._scanner: Scanner | None = None
        self._position: int | None = None
        self._seen = float("-inf")

    @property
    def fresh(self) -> bool:
        """Whether what is known may still be mapped by."""
        return time.monotonic() - self._seen < LOOK_SECONDS

    def refresh(self) -> None:
        """Read on to the topic's end. Raises OtherKey, and KafkaAccessError where the topic cannot be read."""
        began = time.monotonic()
        if self._scanner is None:
            self._scanner = Scanner(self._settings)
        records = []
        position = self._position
        for message in self._scanner.read({TopicPartition(ERASED, 0): position}):
            position = (message.offset() or 0) + 1
            records.append((message.key() or b"", message.value()))
        self.erased.read(records)
        self._position, self._seen = position, began

    def blocks(self, envelope: Envelope) -> bool:
        """`Erased.blocks` on fresh knowledge: for a process that has nothing else to do meanwhile."""
        self._refresh_if_stale()
        return self.erased.blocks(envelope)

    def require(self, fingerprint: str) -> None:
        """Raise ErasedSince where the erased are not those of ``fingerprint`` any more: what was mapped before, and is
        only written now, would bring back who was erased in between."""
        self._refresh_if_stale()
        if self.erased.fingerprint != fingerprint:
            raise ErasedSince("a patient was erased, or let in again, since this was mapped: begin a new run")

    def _refresh_if_stale(self) -> None:
        if not self.fresh:
            self.refresh()

    def close(self) -> None:
        if self._scanner is not None:
            self._scanner.close()
            self._scanner = None


class Heeding:
    """A follower on an event loop: one look at a time, in a thread."""

    def __init__(self, follower: Follower) -> None:
        self.erased = follower.erased
        self._follower = follower
        self._looking = asyncio.Lock()

    @property
    def fresh(self) -> bool:
        return self._follower.fresh

    async def keep(self) -> None:
        """Look again before what is known grows old, so that no batch waits for a look."""
        while True:
            async with self._looking:
                # Otherwise what is known grows old, and the next batch, which may not be mapped by it, hears why.
                with suppress(ConfigurationError, KafkaAccessError):
                    await asyncio.to_thread(self._follower.refresh)
            await asyncio.sleep(LOOK_SECONDS / 2)

    async def look(self) -> None:
        """Returns once what is known may be mapped by. Raises as `Follower.refresh`."""
        async with self._looking:
            if not self.fresh:
                await asyncio.to_thread(self._follower.refresh)
