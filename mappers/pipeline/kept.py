"""The kept leaves that an event's Provenance holds, within the limits of their number and bytes (mapping.md §1.1)."""

from collections.abc import Iterable, Sequence
from typing import Any

from fhirline.mappers.json_pointer import value_at
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.pipeline.ledger import Leaf
from fhirline.mappers.pipeline.limits import Cut, Limits, common_pointer, cut

_OTHER = 8
"""Bytes that a value other than a text counts for."""


def kept_leaves(leaves: Iterable[Leaf], body: Body, limits: Limits) -> list[Leaf]:
    """Return the leaves to keep on the Provenance. Too many below one place become one leaf, whose value is a `Cut`.

    ``leaves`` are the unplaced leaves of the ledger, `Cut` values included, and ``body`` is the redacted body before
    anything was cut from it. The largest parts become a Cut first.

    >>> body = {"a": 1, "x": {"y": [0] * 1_000}}
    >>> sent = [Leaf("/a", 1, "kept", "no rule"), *(Leaf(f"/x/y/{n}", 0, "kept", "no rule") for n in range(1_000))]
    >>> [(leaf.pointer, leaf.value) for leaf in kept_leaves(sent, body, Limits())]  # doctest: +ELLIPSIS
    [('/a', 1), ('/x/y', Cut(pointer='/x/y', values=1000, size=2001, digest='...', start=None, read=False))]
    """
    kept = list(leaves)
    if len(kept) <= limits.kept and sum(map(_size, kept)) <= limits.kept_bytes:
        return kept
    return _Keeper(body, limits).kept(kept)


def _size(leaf: Leaf) -> int:
    return len(leaf.pointer) + (len(leaf.value) if isinstance(leaf.value, str) else _OTHER)


class _Place:
    """A place of the body with kept leaves at or below it. ``cost`` is in bytes."""

    __slots__ = ("below", "cost", "leaves")

    def __init__(self) -> None:
        self.below: dict[str, _Place] = {}
        self.leaves: list[Leaf] = []
        self.cost = 0

    def all_leaves(self) -> list[Leaf]:
        """Return the leaves at or below this place."""
        found, waiting = [], [self]
        while waiting:
            place = waiting.pop()
            found.extend(place.leaves)
            waiting.extend(place.below.values())
        return found


class _Keeper:
    """Fits the kept leaves of one event into the limits."""

    def __init__(self, body: Body, limits: Limits) -> None:
        self._body, self._budget = body, limits.kept_bytes
        self._unit = max(1, limits.kept_bytes // limits.kept)
        self._made: list[Leaf] = []

    def kept(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        order = {leaf.pointer: number for number, leaf in enumerate(leaves)}
        self._fit("", self._tree(leaves), self._budget)
        last = len(leaves)
        return sorted(self._made, key=lambda leaf: order.get(leaf.pointer, last))

    def _tree(self, leaves: Sequence[Leaf]) -> _Place:
        root = _Place()
        for leaf in leaves:
            cost = self._unit + _size(leaf)
            place = root
            place.cost += cost
            for token in leaf.pointer.split("/")[1:]:
                place = place.below.setdefault(token, _Place())
                place.cost += cost
            place.leaves.append(leaf)
        return root

    def _fit(self, pointer: str, place: _Place, budget: int) -> int:
        """Add the leaves of a place, or one Cut of those that do not fit; return the bytes that they take."""
        if place.cost <= budget:
            self._made.extend(place.all_leaves())
            return place.cost
        most = budget // self._unit - len(place.leaves)
        if not place.below or len(place.below) > most:
            self._made.append(self._entry(pointer, place.all_leaves()))
            return self._unit
        taken = 0
        if place.leaves:  # a Cut at this place, beside leaves below it
            self._made.extend(place.leaves)
            taken = self._unit * len(place.leaves)
        order = sorted(place.below.items(), key=lambda entry: entry[1].cost)
        for before, (token, inner) in enumerate(order):
            taken += self._fit(f"{pointer}/{token}", inner, (budget - taken) // (len(order) - before))
        return taken

    def _entry(self, pointer: str, leaves: Sequence[Leaf]) -> Leaf:
        """Make the leaf of all kept values at or below a place."""
        if len(leaves) == 1 and isinstance(leaves[0].value, Cut):
            return leaves[0]
        pointer = common_pointer(leaf.pointer for leaf in leaves)
        values = sum(leaf.value.values if isinstance(leaf.value, Cut) else 1 for leaf in leaves)
        whole = value_at(self._body, pointer)
        present, total = _counts(whole)
        if values in (present, total):  # nothing there has another treatment
            made = cut(pointer, whole, total)
        else:
            content = {leaf.pointer: leaf.value.text if isinstance(leaf.value, Cut) else leaf.value for leaf in leaves}
            made = cut(pointer, content, values)
        return leaves[0]._replace(pointer=pointer, value=made)


def _counts(value: Any) -> tuple[int, int]:
    """Return the number of leaves that are not absent (`payload.absent`), and of all leaves."""
    present = total = 0
    waiting: list[Any] = [[value]]
    while waiting:
        place = waiting.pop()
        for item in place.values() if place.__class__ is dict else place:
            kind = item.__class__
            if kind is dict or kind is list:
                if item:
                    waiting.append(item)
                else:
                    total += 1
            else:
                total += 1
                present += item is not None and (kind is not str or not (not item or item.isspace()))
    return present, total
