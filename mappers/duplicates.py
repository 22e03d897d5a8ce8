"""Duplicate items inside one event (mapping.md §3.6)."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

from fhirline.mappers.context import Item, Model
from fhirline.mappers.identity import Part
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.results import Flags

CONFLICT_DIGITS = 16
"""Hex digits of an item's SHA-256 that become the further key part of an item with a conflicting id."""


@dataclass(frozen=True, slots=True)
class Distinct(Generic[Model]):
    """An item to map. ``key`` are the key parts of its id; ``flags`` report its duplicates and conflicts."""

    item: Item[Model]
    key: tuple[Part, ...]
    flags: Flags

    @property
    def model(self) -> Model:
        return self.item.model

    @property
    def pointer(self) -> str:
        return self.item.pointer


def distinct(items: Iterable[Item[Model]], key: Callable[[Model], tuple[Part, ...]]) -> list[Distinct[Model]]:
    """Group items by vendor id: equal content collapses into one item; different content is kept under longer keys.

    ``key`` returns the key parts of an item's vendor id. Content is compared in canonical form, and the further key
    part of a conflicting item is made of its SHA-256, so that it does not depend on the items' order.

    >>> sent = [{"id": 7, "name": "A"}, {"id": 7, "name": "A"}, {"id": 7, "name": "B"}, {"id": 8, "name": "A"}]
    >>> items = [Item(f"/drugs/{position}", drug, drug) for position, drug in enumerate(sent)]
    >>> for found in distinct(items, key=lambda drug: (drug["id"],)):
    ...     print(found.pointer, found.key, [flag.code for flag in found.flags])
    /drugs/0 (7, '7812421e42ffd7d8') ['duplicate-collapsed', 'duplicate-id-conflict']
    /drugs/2 (7, '175ca27d7618f092') ['duplicate-id-conflict']
    /drugs/3 (8,) []
    """
    by_id: dict[tuple[Part, ...], dict[bytes, list[Item[Model]]]] = {}
    for item in items:
        by_id.setdefault(key(item.model), {}).setdefault(canonical(item.raw), []).append(item)
    found = []
    for id_parts, by_content in by_id.items():
        for content, equal in by_content.items():
            parts, flags = id_parts, _collapsed_flags(equal)
            if len(by_content) > 1:
                flags.add("duplicate-id-conflict", *(item.pointer for item in equal))
                parts = (*id_parts, hashlib.sha256(content).hexdigest()[:CONFLICT_DIGITS])
            found.append(Distinct(equal[0], parts, flags))
    return found


def collapsed(items: Iterable[Item[Model]]) -> list[Distinct[Model]]:
    """Collapse items of equal content. For items without an id: they get no key parts.

    >>> sent = [{"name": "A"}, {"name": "B"}, {"name": "A"}]
    >>> items = [Item(f"/notes/{position}", note, note) for position, note in enumerate(sent)]
    >>> [(found.pointer, [flag.at for flag in found.flags]) for found in collapsed(items)]
    [('/notes/0', [('/notes/0', '/notes/2')]), ('/notes/1', [])]
    """
    by_content: dict[bytes, list[Item[Model]]] = {}
    for item in items:
        by_content.setdefault(canonical(item.raw), []).append(item)
    return [Distinct(equal[0], (), _collapsed_flags(equal)) for equal in by_content.values()]


def _collapsed_flags(equal: list[Item[Model]]) -> Flags:
    flags = Flags()
    if len(equal) > 1:
        flags.add("duplicate-collapsed", *(item.pointer for item in equal))
    return flags
