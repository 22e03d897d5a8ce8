"""Finds resources that the server misses, in the Bundle or the ``fhir.r4.<Type>`` topics (fhir-delivery.md §3).

The invariant: **nothing of an erased patient is added**, by an erasure list that is fresh, also where the patient is
erased while the attempts go on. What is added need not be of the Bundle's own patient, whom the stage has checked.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from fhirline.config.settings import Settings
from fhirline.streams.deliver.canonical import Canonical
from fhirline.streams.deliver.entries import PATIENT, Entry, references
from fhirline.streams.deliver.erased import partition_keys
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import PATIENTLESS_TYPES

Known = Callable[[str], Entry | None]
"""Returns the entry of a resource that is known here; None where there is none."""


class Completion:
    """Finds resources to be added to a transaction."""

    def __init__(self, settings: Settings, erasures: ErasureListFeed) -> None:
        self._base = settings.base
        self._canonical = Canonical(settings)
        self._erasures = erasures

    async def find(self, keys: Iterable[str], known: Known, partition: int) -> list[Entry]:
        """Return the values of resources that may be sent, in the order of ``keys``. Raises KafkaAccessError."""
        keys = list(keys)
        found = await self._values(keys, known, partition)
        return await self.allowed([found[key] for key in keys if key in found], known, partition)

    async def allowed(self, entries: Sequence[Entry], known: Known, partition: int) -> list[Entry]:
        """Return the entries without those of erased patients. Raises KafkaAccessError, or OtherKey.

        An entry belongs to the patients that it names by identifier or by reference. If it names none, it belongs to
        those of the resources that it refers to. A patient without a current value may be one whom an erasure has
        deleted.
        """
        await self._erasures.ensure_fresh()
        if not len(self._erasures.erasure_list):
            return list(entries)
        named = {entry.key: _about(entry) for entry in entries}
        values = await self._values(dict.fromkeys(key for keys in named.values() for key in keys), known, partition)
        return [entry for entry in entries if not self._blocks(entry, named[entry.key], values)]

    def _blocks(self, entry: Entry, named: Sequence[str], values: Mapping[str, Entry]) -> bool:
        if any(key not in values for key in named if key.startswith(PATIENT)):
            return True
        about = [entry, *(values[key] for key in named if key in values)]
        return any(map(self._erasures.erasure_list.blocks_key, partition_keys(about, self._base)))

    async def _values(self, keys: Iterable[str], known: Known, partition: int) -> dict[str, Entry]:
        """Return the entries to send of resources, without deleted ones and those of which no value is known."""
        found = {key: known(key) for key in keys}
        if unknown := [key for key, entry in found.items() if entry is None]:
            found.update(await asyncio.to_thread(self._canonical.newest, unknown, partition))
        return {key: entry for key, entry in found.items() if entry is not None and entry.resource is not None}


def _about(entry: Entry) -> list[str]:
    """Return the other resources that show to which patient an entry belongs."""
    if entry.key.partition("/")[0] in PATIENTLESS_TYPES:
        return []
    named = references([entry])
    patients = [key for key in named if key.startswith(PATIENT)]
    return patients or ([] if entry.key.startswith(PATIENT) else named)
