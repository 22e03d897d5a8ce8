"""Settle a Bundle, or the waiting Bundles of a patient: they are sent, unchanged, or wait (fhir-delivery.md §4)."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.deliver import metrics as m
from fhirline.streams.deliver.canonical import Canonical
from fhirline.streams.deliver.dead_letter import UNREADABLE, Refused, refusal_letter, unreadable_letter
from fhirline.streams.deliver.entries import DELETED, Entry
from fhirline.streams.deliver.erased import partition_keys
from fhirline.streams.deliver.purge import Purge
from fhirline.streams.deliver.purge_outcomes import DONE
from fhirline.streams.deliver.sending import Delivery, DeliveryAbandoned, Refusal, Result
from fhirline.streams.deliver.shared import SharedLane
from fhirline.streams.deliver.state import (
    DeliveredPartition,
    Sent,
    Waiting,
    resume_record,
    sent_record,
    shared_record,
)
from fhirline.streams.deliver.work import Resumption, Work
from fhirline.streams.kafka.records import ProducerRecord, RecordPosition
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import BUNDLE, RESOURCE_TYPES

log = structlog.get_logger("deliver")


class Outcomes:
    """Settles pieces of work. Each is durable when `settle` returns."""

    def __init__(
        self,
        settings: Settings,
        delivery: Delivery,
        shared: SharedLane,
        purge: Purge,
        erasures: ErasureListFeed,
        producer: RawProducer,
        metrics: m.DeliverMetrics,
    ) -> None:
        self._base = settings.base
        self._delivery = delivery
        self._shared = shared
        self._purge = purge
        self._erasures = erasures
        self._producer = producer
        self._metrics = metrics
        self._canonical = Canonical(settings)

    async def settle(self, work: Work | Resumption) -> None:
        """Send the Bundle of a work item, or the waiting ones, and make the outcome durable.

        Raises DeliveryAbandoned, KafkaUnavailable, KafkaAccessError, or ConfigurationError.
        """
        if work.assignment.revoked:
            raise DeliveryAbandoned
        began = time.monotonic()
        if isinstance(work, Resumption):
            return await self._resume(work)
        outcome = await self._bundle(work)
        self._metrics.bundles[outcome].inc()
        self._metrics.seconds.observe(time.monotonic() - began)

    async def _bundle(self, work: Work) -> str:
        state, offset = work.state, work.bundle.offset
        if not work.entries:
            log.warning("dead letter", bundle=str(work.bundle.position), code=UNREADABLE)
            await self.write([unreadable_letter(Refused.of(work.bundle))])
            return m.UNREADABLE
        if str(offset) in state.waiting:
            return m.WAITING  # read again: its waiting is in the state already
        if not work.erases and await self.erased(work.entries):
            return self._passed_over(work)
        ahead = None if work.erases else state.waits(work.patients)
        if ahead is not None:
            await self._wait(work, ahead.code, refused=False)
            return m.WAITING
        shared = [entry for entry in work.entries if entry.shared]
        due = state.due((entry for entry in work.entries if not entry.shared), offset)
        try:
            result = Result(refusal=await self._shared.ensure(shared, lambda: self._ends(work)))
            if due and result.refusal is None:
                others = {entry.key: entry for entry in work.entries}
                result = await self._delivery.send(due, others, state.partition, lambda: self._ends(work))
        except DeliveryAbandoned:
            if work.assignment.revoked:
                raise
            return self._passed_over(work)  # erased while the server was away
        await self.note(state, result.delivered, offset)
        if result.refusal is not None:
            log.warning("dead letter", bundle=str(work.bundle.position), **shown(result.refusal))
            await self._wait(work, result.refusal.code, True, refusal_letter(Refused.of(work.bundle), result.refusal))
            return m.REFUSED
        if work.erases:
            await self.end_waiting(state, [item for key in work.patients for item in state.waiting_with(key)])
            erased = [entry.key for entry in work.entries if entry.resource is None]
            await self.purge_history(state, erased, str(work.bundle.position), lambda: work.assignment.revoked)
        return m.DELIVERED if due else m.UNCHANGED

    async def _resume(self, work: Resumption) -> None:
        """Send the current values of waiting Bundles' resources: a corrected mapping may have made others."""
        state, patient = work.state, work.patient
        waiting = state.waiting_with(patient)
        if waiting:
            keys = dict.fromkeys(key for item in waiting for key in item.keys)
            newest = dict(await asyncio.to_thread(self._canonical.newest, keys, state.partition))
            gone = [key for item in waiting if item.erases for key in item.keys]
            for key in gone:  # a topic drops its tombstones after a day
                newest.setdefault(key, Entry(key, None, DELETED))
            entries = sorted(newest.values(), key=_place)
            offset = waiting[-1].offset
            own = [entry for entry in entries if not entry.shared and _changed(state, entry)]
            shared = [entry for entry in entries if entry.shared]
            if erased := await self.erased(own):  # the DELETE Bundle ends the waiting
                own = []
            result = Result(refusal=await self._shared.ensure(shared, lambda: work.assignment.revoked))
            if own and result.refusal is None:
                result = await self._delivery.send(own, newest, state.partition, lambda: work.assignment.revoked)
            await self.note(state, result.delivered, offset)
            bundles = [item.offset for item in waiting if item.owner is None]
            first = RecordPosition(BUNDLE, state.partition, bundles[0]) if bundles else None
            if result.refusal is None:
                await self.end_waiting(state, [] if erased else waiting)
                await self.purge_history(state, gone, str(first or "none"), lambda: work.assignment.revoked)
                log.info("resumed", partition=state.partition, bundles=len(waiting), resources=len(own))
            else:
                log.warning("dead letter", bundle=str(first or "none"), **shown(result.refusal))
                refused = Refused(first, patient.encode(), [], state.partition)
                await self.write([refusal_letter(refused, result.refusal)])
        await self.write([resume_record(patient, state.partition, None)])
        state.resuming.discard(patient)

    async def erased(self, entries: Sequence[Entry]) -> bool:
        """Tell whether the resources are about a patient who is erased, by a list that is fresh."""
        await self.ensure_fresh()
        return self.blocks(entries)

    async def ensure_fresh(self) -> None:
        """Return once the erasure list is fresh. Raises OtherKey or KafkaAccessError."""
        await self._erasures.ensure_fresh()

    @property
    def any_erased(self) -> bool:
        return len(self._erasures.erasure_list) > 0

    @property
    def erasures_read(self) -> int:
        """Return the number of records that were read of the list. It changes with each block."""
        return self._erasures.erasure_list.applied

    def blocks(self, entries: Iterable[Entry]) -> bool:
        """Tell whether the resources are about an erased patient, by what was read of the list."""
        blocks = self._erasures.erasure_list.blocks_key
        return self.any_erased and any(map(blocks, partition_keys(entries, self._base)))

    def _ends(self, work: Work) -> bool:
        """Tell whether a Bundle is not to be sent any more."""
        return work.assignment.revoked or (not work.erases and self.blocks(work.entries))

    def _passed_over(self, work: Work) -> str:
        log.info("erased patient passed over", bundle=str(work.bundle.position))
        return m.ERASED

    async def purge_history(
        self, state: DeliveredPartition, keys: Iterable[str], bundle: str, abandoned: Callable[[], bool]
    ) -> None:
        """Purge the histories of deleted resources at the server, and make the result of each durable."""
        outcomes = Counter[str]()
        for key in keys:
            known = state.sent.get(key)
            if known is None or known.digest != DELETED or known.history in DONE:
                continue
            history = await self._purge.history(key, abandoned)
            outcomes[history] += 1
            noted = replace(known, history=history)
            await self.write([sent_record(key, noted, state.partition)])
            state.note(key, noted)
        if kept := {outcome: number for outcome, number in outcomes.items() if outcome not in DONE}:
            log.warning("the server may keep what was erased", bundle=bundle, outcomes=kept)

    async def note(self, state: DeliveredPartition, delivered: Iterable[Entry], offset: int) -> None:
        """Write the delivered entries to the state topic, then to the state in memory."""
        delivered = list(delivered)
        await self.write(
            shared_record(entry.key, entry.digest)
            if entry.shared
            else sent_record(entry.key, Sent(offset, entry.digest), state.partition)
            for entry in delivered
        )
        for entry in delivered:
            if not entry.shared:
                state.note(entry.key, Sent(offset, entry.digest))

    async def _wait(self, work: Work, code: str, refused: bool, *letters: ProducerRecord) -> None:
        """Let a Bundle wait, durably."""
        keys = tuple(entry.key for entry in work.entries)
        waiting = Waiting(work.bundle.offset, work.patients, keys, code, refused, work.erases)
        await self.write([waiting.record(work.state.partition), *letters])
        work.state.waiting[waiting.name] = waiting

    async def end_waiting(self, state: DeliveredPartition, waiting: Sequence[Waiting]) -> None:
        """End the waiting of Bundles, durably."""
        await self.write(item.ended(state.partition) for item in waiting)
        for item in waiting:
            state.waiting.pop(item.name, None)

    async def write(self, records: Iterable[ProducerRecord]) -> None:
        """Write records and wait until Kafka has acknowledged all."""
        await asyncio.gather(*(self._producer.send(record) for record in records))


def _place(entry: Entry) -> int:
    """Return the place of a resource's type in the order in which a server takes them; last, of a type not of ours."""
    kind = entry.key.partition("/")[0]
    return RESOURCE_TYPES.index(kind) if kind in RESOURCE_TYPES else len(RESOURCE_TYPES)


def _changed(state: DeliveredPartition, entry: Entry) -> bool:
    known = state.sent.get(entry.key)
    return entry.resource is not None if known is None else known.digest != entry.digest


def shown(refusal: Refusal) -> dict[str, object]:
    """Return what a log line may say of a refusal."""
    verdict = refusal.verdict
    return {
        "code": refusal.code,
        "status": verdict.status,
        "issues": sorted({issue.code for issue in verdict.issues}),
        "places": sorted({place for issue in verdict.issues for place in issue.places})[:5],
        "server_codes": list(verdict.server_codes),
        "referring": list(verdict.referring),
    }
