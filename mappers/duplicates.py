"""Items that stand twice inside one event (mapping.md §3.6)."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

from fhirline.mappers.context import Item, Model
from fhirline.mappers.identity import Part
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.results import Flags


@dataclass(frozen=True, slots=True)
class Distinct(Generic[Model]):
    """An item that stands for itself. ``key`` are its id's key parts; ``flags`` tell of what happened to its likes."""

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
    """Group items by vendor id: equal content collapses, different content is all kept, each with a longer key.

    A conflicting item's further key part is the first 16 hex digits of the SHA-256 of its canonical form.
    """
    groups: dict[tuple[Part, ...], dict[bytes, list[Item[Model]]]] = {}
    for item in items:
        groups.setdefault(key(item.model), {}).setdefault(canonical(item.raw), []).append(item)
    found = []
    for parts, contents in groups.items():
        for content, likes in contents.items():
            flags = Flags()
            if len(likes) > 1:
                flags.add("duplicate-collapsed", *(like.pointer for like in likes))
            if len(contents) > 1:
                flags.add("duplicate-id-conflict", *(like.pointer for like in likes))
                found.append(Distinct(likes[0], (*parts, hashlib.sha256(content).hexdigest()[:16]), flags))
            else:
                found.append(Distinct(likes[0], parts, flags))
    return found


def collapsed(items: Iterable[Item[Model]]) -> list[Distinct[Model]]:
    """Items that nothing identifies: equal content is one item, everything else stands for itself; no key parts."""
    contents: dict[bytes, list[Item[Model]]] = {}
    for item in items:
        contents.setdefault(canonical(item.raw), []).append(item)
    found = []
    for likes in contents.values():
        flags = Flags()
        if len(likes) > 1:
            flags.add("duplicate-collapsed", *(like.pointer for like in likes))
        found.append(Distinct(likes[0], (), flags))
    return found
