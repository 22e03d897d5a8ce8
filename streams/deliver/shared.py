"""The lane of the shared types: Organization, Device, Practitioner, Medication, Schedule (fhir-delivery.md §2).

Bundles of many patients hold the same resources. Sent with each of them, they would conflict at the server, and a
Bundle that was made earlier, or in another partition, would set them back. So they go first, one request at a time,
only when they have changed, and with the content of their ``fhir.r4.<Type>`` topic.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.deliver.canonical import SharedFeed
from fhirline.streams.deliver.delivery import Delivery, Refusal
from fhirline.streams.deliver.entries import Entry
from fhirline.streams.deliver.state import shared_record
from fhirline.streams.step1_receive.raw_producer import RawProducer

log = structlog.get_logger("deliver")

FOLLOW_SECONDS = 2.0


class SharedLane:
    """Sends shared resources. `start` before anything else."""

    def __init__(self, settings: Settings, delivery: Delivery, producer: RawProducer) -> None:
        self._delivery = delivery
        self._producer = producer
        self._feed = SharedFeed(settings)
        self._lock = asyncio.Lock()
        self._older: dict[str, set[str]] = {}
        """Digests of a resource that its Bundles hold, where its topic holds another value."""

    async def start(self) -> None:
        """Read what the topics hold. Raises KafkaAccessError."""
        await asyncio.to_thread(self._feed.refresh)

    def close(self) -> None:
        self._feed.close()

    async def ensure(self, entries: Sequence[Entry], abandoned: Callable[[], bool]) -> Refusal | None:
        """Return once the server has the shared resources of a Bundle, or has refused one. Raises as `Delivery.send`.

        A Bundle's own copy is sent only where its topic holds no value.
        """
        if not self._due(entries):
            return None
        async with self._lock:
            if not (due := self._due(entries)):
                return None
            await asyncio.to_thread(self._feed.refresh)
            newest = [self._feed.current.get(entry.key, entry) for entry in due]
            refusal = await self._send(newest, entries, abandoned)
            if refusal is None:
                for entry in due:
                    if self._feed.sent.get(entry.key) != entry.digest:
                        self._older.setdefault(entry.key, set()).add(entry.digest)
            return refusal

    async def follow(self) -> None:
        """Send what changes in the topics after it was sent for a Bundle, until cancelled. Raises as `Delivery.send`.

        It may have changed by an event of another partition, or after the Bundle that holds it was read.
        """
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            async with self._lock:
                await asyncio.to_thread(self._feed.refresh)
                if outdated := self._feed.outdated():
                    refusal = await self._send(outdated, (), lambda: False)
                    if refusal is not None:
                        log.warning("shared resources refused", resources=list(refusal.keys), code=refusal.code)

    def _due(self, entries: Iterable[Entry]) -> list[Entry]:
        return [
            entry
            for entry in entries
            if (sent := self._feed.sent.get(entry.key)) is None
            or (sent != entry.digest and entry.digest not in self._older.get(entry.key, ()))
        ]

    async def _send(
        self, entries: Iterable[Entry], others: Iterable[Entry], abandoned: Callable[[], bool]
    ) -> Refusal | None:
        changed = [entry for entry in entries if self._feed.sent.get(entry.key) != entry.digest]
        if not changed:
            return None
        known = {entry.key: self._feed.current.get(entry.key, entry) for entry in others}
        result = await self._delivery.send(changed, known, 0, abandoned)
        delivered = [entry for entry in result.delivered if entry.shared]
        await asyncio.gather(*(self._producer.send(shared_record(item.key, item.digest)) for item in delivered))
        for entry in delivered:
            self._feed.sent[entry.key] = entry.digest
        return result.refusal
