"""Erased patients in a fill: it does not send their values, and deletes their resources (fhir-delivery.md §7 and §8).

A value belongs to an erased patient if the erasure list has a patient whom the value names, by identifier or by
reference. A value that names no patient belongs to the patients of the resources to which it refers. Each value is
checked by itself: one that is not sent keeps back no other value of its owner.
"""

from collections.abc import Iterator, Mapping, Sequence

from fhirline.streams.deliver.entries import DELETED, PATIENT, Entry, references
from fhirline.streams.deliver.fill.snapshot import Held, Snapshot
from fhirline.streams.deliver.outcome import Outcomes
from fhirline.streams.deliver.state import DeliveredPartition


class ErasedPatients:
    """The erasure list, applied to the values of the topics."""

    def __init__(self, outcomes: Outcomes, snapshot: Snapshot, states: Mapping[int, DeliveredPartition]) -> None:
        self._outcomes = outcomes
        self._snapshot = snapshot
        self._states = states

    async def without(self, held: Sequence[Held], owner: str | None) -> list[Held]:
        """Return the values that belong to no erased patient, by a fresh list. ``owner``: the patient of the values."""
        await self._outcomes.ensure_fresh()
        return [item for item in held if not self.blocks(item, owner)]

    def blocks(self, held: Held, owner: str | None) -> bool:
        """Tell whether a value is an erased patient's, by what was read of the list."""
        if held.digest == DELETED or not self._outcomes.any_erased:
            return False
        entry = self._snapshot[held.key]
        named = references([entry])
        about = [key for key in (*named, owner or "") if key.startswith(PATIENT)] or named
        return self._outcomes.blocks([entry, *(found for key in about if (found := self._snapshot.get(key)))])

    def deletions(self) -> Iterator[Held]:
        """Yield the resources to delete, also those of waiting erasures whose tombstones the topics have dropped."""
        yield from self._snapshot.tombstones()
        for state in self._states.values():
            for key in sorted({key for item in state.waiting.values() if item.erases for key in item.keys}):
                if self._snapshot.held(key) is None and not Entry(key, None, DELETED).shared:
                    yield Held(key, state.partition, DELETED, erased=True)
