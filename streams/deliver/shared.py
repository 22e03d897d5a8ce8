"""The lane of the shared types: Organization, Device, Practitioner, Medication, Schedule (fhir-delivery.md §2).

Bundles of many patients hold the same resources. Sent with each of them, they would conflict at the server, and a
Bundle that was made earlier, or in another partition, would set them back. So they go first, one request at a time,
only when they have changed, and with the content of their ``fhir.r4.<Type>`` topic.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.deliver.canonical import SharedFeed
from fhirline.streams.deliver.entries import Entry
from fhirline.streams.deliver.sending import Delivery, Refusal
from fhirline.streams.deliver.state import shared_record
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.topics.declared import RESOURCE_TYPES

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
            if any(self._unlike_topic(entry) for entry in due):
                await asyncio.to_thread(self._feed.refresh)
            newest = [self._feed.current.get(entry.key, entry) for entry in due]
            refusal = await self._send(newest, entries, abandoned)
            if refusal is None:
                for entry in due:
                    if self._feed.sent.get(entry.key) != entry.digest:
                        self._older.setdefault(entry.key, set()).add(entry.digest)
            return refusal

    def unsent(self, everything: bool) -> list[Entry]:
        """Return the current entries that were not sent yet (``everything``: or were), referred ones first."""
        current = self._feed.current
        found = [entry for key, entry in current.items() if everything or not self.has(key)]
        return sorted(found, key=lambda entry: RESOURCE_TYPES.index(entry.key.partition("/")[0]))

    @property
    def known(self) -> int:
        """Return the number of resources of shared types that the topics hold."""
        return len(self._feed.current)

    def has(self, key: str) -> bool:
        """Tell whether the server has the current value of a resource; also where its topic has none."""
        entry = self._feed.current.get(key)
        return entry is None or self._feed.sent.get(key) == entry.digest

    async def fill(self, entries: Sequence[Entry], abandoned: Callable[[], bool]) -> Refusal | None:
        """Send entries, whatever was sent of them. Raises as `Delivery.send`."""
        async with self._lock:
            return await self._send_all(entries, {}, abandoned)

    async def note(self, entries: Iterable[Entry]) -> None:
        """Make durable that the server has these shared resources, then know it."""
        delivered = [entry for entry in entries if entry.shared]
        await asyncio.gather(*(self._producer.send(shared_record(item.key, item.digest)) for item in delivered))
        for entry in delivered:
            self._feed.sent[entry.key] = entry.digest

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

    def _unlike_topic(self, entry: Entry) -> bool:
        """Tell whether a Bundle's copy is not what its topic held, which `follow` reads every few seconds."""
        held = self._feed.current.get(entry.key)
        return held is None or held.digest != entry.digest

    async def _send(
        self, entries: Iterable[Entry], others: Iterable[Entry], abandoned: Callable[[], bool]
    ) -> Refusal | None:
        changed = [entry for entry in entries if self._feed.sent.get(entry.key) != entry.digest]
        if not changed:
            return None
        known = {entry.key: self._feed.current.get(entry.key, entry) for entry in others}
        return await self._send_all(changed, known, abandoned)

    async def _send_all(
        self, entries: Sequence[Entry], known: Mapping[str, Entry], abandoned: Callable[[], bool]
    ) -> Refusal | None:
        result = await self._delivery.send(entries, known, 0, abandoned)
        await self.note(result.delivered)
        return result.refusal
