"""Sending what the topics hold: shared resources, then patients, then the DELETEs of tombstones (fhir-delivery.md §8).

The invariant: **what is noted as sent has the fill's version, and the server has answered 2xx for it** (`versions`
defines it). The group's offset moves up to the version only after everything is sent, or waits durably because the
server refused it. Nothing is sent of a patient who is erased, by a list that is fresh; where an erasure has written
tombstones, the history at the server is purged as after a DELETE Bundle.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.deliver.at_once import for_all
from fhirline.streams.deliver.dead_letter import Refused, refusal_letter
from fhirline.streams.deliver.entries import DELETED, Entry
from fhirline.streams.deliver.fill.erased import ErasedPatients
from fhirline.streams.deliver.fill.membership import Membership
from fhirline.streams.deliver.fill.snapshot import Group, Held, Snapshot
from fhirline.streams.deliver.outcome import Outcomes, shown
from fhirline.streams.deliver.sending import Delivery, DeliveryAbandoned, Refusal
from fhirline.streams.deliver.shared import SharedLane
from fhirline.streams.deliver.state import DeliveredPartition, Waiting

log = structlog.get_logger("deliver")

T = TypeVar("T")

TOGETHER = 100
"""Resources without a patient, and DELETEs, in one transaction."""

AHEAD = 2
"""Transactions that are prepared for each request that may be in flight."""


@dataclass(slots=True)
class Report:
    """Counts of a fill, in resources. ``refused``: whose resources the server refused. ``resumed``: Bundles.

    ``erased``: of erased patients, passed over.
    """

    sent: int = 0
    deleted: int = 0
    unchanged: int = 0
    erased: int = 0
    resumed: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.sent + self.deleted + self.unchanged + self.erased


class Fill:
    """One fill. ``everything``: send also what was sent before, because the server may have lost it."""

    def __init__(
        self,
        settings: Settings,
        delivery: Delivery,
        shared: SharedLane,
        outcomes: Outcomes,
        states: Mapping[int, DeliveredPartition],
        versions: Mapping[int, int],
        snapshot: Snapshot,
        membership: Membership,
        stopped: Callable[[], bool],
        everything: bool,
    ) -> None:
        self._settings = settings
        self._delivery = delivery
        self._shared = shared
        self._outcomes = outcomes
        self._states = states
        self._versions = versions
        self._snapshot = snapshot
        self._erased = ErasedPatients(outcomes, snapshot, states)
        self._membership = membership
        self._stopped = stopped
        self._everything = everything
        self.report = Report()

    async def run(self, show: Callable[[Report], None]) -> Report:
        """Send all. Raises as `Delivery.send`, and KafkaUnavailable."""
        shared = self._shared.unsent(self._everything)
        self.report.unchanged += self._shared.known - len(shared)
        await self._send_shared([entry for entry in shared if entry.resource is not None])
        show(self.report)

        async def settle(batch: _Batch) -> None:
            await self._settle(batch)
            show(self.report)

        for batches in (self._groups(), self._deletions()):  # all PUTs before any DELETE of what they referred to
            await for_all(batches, settle, AHEAD * self._settings.deliver_requests)
        await self._send_shared([entry for entry in reversed(shared) if entry.resource is None])
        await self._purge_erased()
        await self._end_waiting()
        return self.report

    def _groups(self) -> "Iterator[_Batch]":
        for group in self._snapshot.groups():
            due = [held for held in group.held if self._due(held)]
            self.report.unchanged += len(group.held) - len(due)
            if group.owner is not None and due:
                yield _Batch(group.partition, due, group)
            elif group.owner is None:
                yield from (_Batch(group.partition, part) for part in _parts(due))

    def _deletions(self) -> "Iterator[_Batch]":
        due: dict[int, list[Held]] = {}
        for held in self._erased.deletions():
            if self._due(held):
                due.setdefault(held.partition, []).append(held)
            else:
                self.report.unchanged += 1
        for partition, found in due.items():
            yield from (_Batch(partition, part) for part in _parts(found))

    def _due(self, held: Held) -> bool:
        known = self._states[held.partition].sent.get(held.key)
        return self._everything or known is None or known.digest != held.digest

    async def _settle(self, batch: "_Batch") -> None:
        state, left, again = self._states[batch.partition], [], False
        allowed = await self._erased.without(batch.held, batch.patient)
        self.report.erased += len(batch.held) - len(allowed)
        entries = [self._entry(held) for held in allowed]
        known = self._outcomes.erasures_read

        def abandoned() -> bool:
            changed = self._outcomes.erasures_read != known
            return self._abandoned() or (changed and any(self._erased.blocks(held, batch.patient) for held in allowed))

        self._membership.require()
        self._membership.in_flight += 1
        try:
            result = await self._delivery.send(entries, self._snapshot, batch.partition, abandoned)
            await self._note(state, result.delivered)
            delivered = {entry.key for entry in result.delivered}
            self._count(entry for entry in entries if entry.key in delivered)
            left = [held for held in allowed if held.key not in delivered]
            if result.refusal is not None and (batch.group is not None or len(left) == 1):
                await self._park(state, batch, left, result.refusal)
                left = []
        except DeliveryAbandoned:
            if self._abandoned():
                raise
            again = True  # somebody was erased while the server was away
        finally:
            self._membership.in_flight -= 1
        if again:
            return await self._settle(replace(batch, held=allowed))
        # They belong to nobody, or to several: find which of them the server refuses.
        for part in _halves(left):
            await self._settle(_Batch(batch.partition, part))

    def _entry(self, held: Held) -> Entry:
        return Entry(held.key, None, DELETED) if held.digest == DELETED else self._snapshot[held.key]

    async def _purge_erased(self) -> None:
        """Purge the histories of resources that erasures have deleted, also those that a killed fill has left."""
        erased: dict[int, list[str]] = {}
        for held in self._erased.deletions():
            if held.erased:
                erased.setdefault(held.partition, []).append(held.key)
        self._membership.in_flight += 1
        try:
            for partition, keys in erased.items():
                await self._outcomes.purge_history(self._states[partition], keys, "none", self._abandoned)
        finally:
            self._membership.in_flight -= 1

    async def _note(self, state: DeliveredPartition, delivered: Iterable[Entry]) -> None:
        """Note the delivered entries, each in its own partition. One that the server missed may have another."""
        by_state: dict[int, list[Entry]] = {}
        for entry in delivered:
            held = self._snapshot.held(entry.key)
            by_state.setdefault(state.partition if held is None else held.partition, []).append(entry)
        await self._shared.note(entry for entries in by_state.values() for entry in entries)
        for partition, entries in by_state.items():
            own = [entry for entry in entries if not entry.shared]
            await self._outcomes.note(self._states[partition], own, self._versions[partition])

    def _count(self, delivered: Iterable[Entry]) -> None:
        for entry in delivered:
            if entry.resource is None:
                self.report.deleted += 1
            else:
                self.report.sent += 1

    async def _park(self, state: DeliveredPartition, batch: "_Batch", left: Sequence[Held], refusal: Refusal) -> None:
        """Let the resources of a patient wait, durably: all of them, since a corrected mapping may change others."""
        owner = batch.owner
        held = left if batch.group is None else await self._erased.without(batch.group.held, batch.patient)
        waiting = Waiting(
            self._versions[state.partition],
            frozenset([owner]),
            tuple(item.key for item in held),
            refusal.code,
            True,
            batch.group is None and all(item.erased for item in held),
            owner,
        )
        log.warning("dead letter", bundle="none", **shown(refusal))
        letter = refusal_letter(Refused.owner(owner, state.partition), refusal)
        await self._outcomes.write([waiting.record(state.partition), letter])
        state.waiting[waiting.name] = waiting
        self.report.refused.append(owner)

    async def _send_shared(self, entries: Sequence[Entry]) -> None:
        for part in _parts(entries):
            await self._send_shared_part(part)

    async def _send_shared_part(self, entries: Sequence[Entry]) -> None:
        self._membership.require()
        refusal = await self._shared.fill(entries, self._abandoned)
        if refusal is None:
            self._count(entries)
        elif len(entries) == 1:
            log.warning("dead letter", bundle="none", **shown(refusal))
            await self._outcomes.write([refusal_letter(Refused.owner(entries[0].key, 0), refusal)])
            self.report.refused.append(entries[0].key)
        else:
            for part in _halves(entries):
                await self._send_shared_part(part)

    async def _end_waiting(self) -> None:
        """End the waiting of everything whose current values the server has now."""
        for state in self._states.values():
            ended = [item for item in state.waiting.values() if self._has_all(item, state.partition)]
            self.report.resumed += len(ended)
            await self._outcomes.end_waiting(state, ended)

    def _has_all(self, waiting: Waiting, partition: int) -> bool:
        return all(self._has(key, partition, waiting.erases) for key in waiting.keys)

    def _has(self, key: str, partition: int, erased: bool) -> bool:
        held, shared = self._snapshot.held(key), Entry(key, None, DELETED).shared
        if held is None and erased and not shared:
            held = Held(key, partition, DELETED)
        if held is None or shared:
            return self._shared.has(key)  # true, too, of what the topics do not hold: there is nothing to send
        known = self._states[held.partition].sent.get(key)
        return known is not None and known.digest == held.digest

    def _abandoned(self) -> bool:
        return self._membership.lost or self._stopped()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Resources of one request. ``group``: the patient's, all of whose resources wait where the server refuses one."""

    partition: int
    held: Sequence[Held]
    group: Group | None = None

    @property
    def patient(self) -> str | None:
        return None if self.group is None else self.group.owner

    @property
    def owner(self) -> str:
        return self.group.owner if self.group is not None and self.group.owner else self.held[0].key


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER))


def _halves(items: Sequence[T]) -> Iterator[Sequence[T]]:
    middle = len(items) // 2
    return (part for part in (items[:middle], items[middle:]) if part)
