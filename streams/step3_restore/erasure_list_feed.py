"""The erasure list kept up to date from ``normalizer.erased``, and how old a process's knowledge of it may be.

The invariant: **nothing is delivered on knowledge of the list that is older than `LOOK_SECONDS`.** Where the topic
cannot be read, nothing is delivered at all. A worker reads the list before it maps a batch, which may take long, and
again before it delivers the batch. So whoever writes a block knows when every worker has read it, and when the last
delivery that began before then is over: after `settled_after` nothing of the patient is written any more. `fhirline
forget` keeps reading until then.
"""

import asyncio
import threading
import time
from contextlib import suppress

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step3_restore.erasure_list import ErasureList, hashing
from fhirline.topics.declared import ERASED

LOOK_SECONDS = 2.0
HANDING_SECONDS = 5.0
"""Time allowed for the hand-over of a batch's records to the producer, which takes far less. A worker that stops for
longer is ended by its `Fence`."""
FLUSH_SECONDS = 2.0
CLOSING_SECONDS = 5.0
PAUSE_SHARE = 0.6
"""The longest pause that a worker survives, as a share of the session timeout (`streams.step2_consume.fencing`)."""


class ErasedSince(ConfigurationError):
    """The erasure list has changed between the mapping of events and their writing."""


def settled_after(settings: Settings) -> float:
    """Return the seconds after which no worker writes anything that a new block forbids."""
    paused = settings.session_timeout * PAUSE_SHARE
    return (
        LOOK_SECONDS
        + max(HANDING_SECONDS, paused)
        + max(settings.delivery_timeout, settings.gateway_delivery_timeout)
        + FLUSH_SECONDS
    )


class ErasureListFeed:
    """Follows the topic into an `ErasureList`, and knows how old the list is.

    `refresh`, `blocks`, `blocks_key` and `require_unchanged` block their thread. On an event loop, `keep_fresh` and
    `ensure_fresh` do the same in a thread, one read at a time. All raise OtherKey where the list was made with another
    secret, and KafkaAccessError where the topic cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.erasure_list = ErasureList(hashing(settings))
        self._settings = settings
        self._scanner: Scanner | None = None
        self._position: int | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._using = threading.Lock()

    @property
    def fresh(self) -> bool:
        """Tell whether events may still be mapped and delivered by what has been read."""
        return time.monotonic() - self._read_at < LOOK_SECONDS

    def refresh(self) -> None:
        """Read on to the topic's end."""
        with self._using:
            began = time.monotonic()
            if self._scanner is None:
                self._scanner = Scanner(self._settings)
            records = []
            position = self._position
            for message in self._scanner.read({TopicPartition(ERASED, 0): position}):
                position = (message.offset() or 0) + 1
                records.append((message.key() or b"", message.value()))
            self.erasure_list.apply(records)
            self._position, self._read_at = position, began

    def blocks(self, envelope: Envelope) -> bool:
        """Tell whether the event's patient is erased, by a list that is fresh."""
        self._refresh_if_stale()
        return self.erasure_list.blocks(envelope)

    def blocks_key(self, partition_key: str) -> bool:
        """Tell whether the patient with this ``vendor|tenant|patient key`` is erased, by a list that is fresh."""
        self._refresh_if_stale()
        return self.erasure_list.blocks_key(partition_key)

    def require_unchanged(self, fingerprint: str) -> None:
        """Raise ErasedSince unless the list still has ``fingerprint``.

        What was mapped by another list could bring back a patient who has been erased since.
        """
        self._refresh_if_stale()
        if self.erasure_list.fingerprint != fingerprint:
            raise ErasedSince("a patient was erased, or let in again, since this was mapped: begin a new run")

    async def keep_fresh(self) -> None:
        """Read on twice as often as needed, until cancelled, so that no batch waits for a read."""
        while True:
            async with self._reading:
                # A list that cannot be read grows stale, and `ensure_fresh` raises the reason to the next batch.
                with suppress(ConfigurationError, KafkaAccessError):
                    await asyncio.to_thread(self.refresh)
            await asyncio.sleep(LOOK_SECONDS / 2)

    async def ensure_fresh(self) -> None:
        """Return once the list is fresh."""
        async with self._reading:
            if not self.fresh:
                await asyncio.to_thread(self.refresh)

    @property
    def open(self) -> bool:
        """Tell whether the feed has a consumer, which `close` closes and the next reading makes again."""
        return self._scanner is not None

    def close(self) -> None:
        """Close the consumer, once a thread that still reads with it has ended.

        A cancelled task leaves such a thread. Where Kafka does not answer, the process's end closes the consumer.
        """
        if not self._using.acquire(timeout=CLOSING_SECONDS):
            return
        try:
            if self._scanner is not None:
                self._scanner.close()
                self._scanner = None
        finally:
            self._using.release()

    def _refresh_if_stale(self) -> None:
        if not self.fresh:
            self.refresh()
