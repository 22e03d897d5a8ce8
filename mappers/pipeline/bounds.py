"""Bounds of an event's body, applied before anything is made of it (mapping.md §1.1).

All later work is proportional to the number of leaves, to their pointers and their texts. So these are bounded here,
once. Ordinary bodies pass after one fast walk. Others are cut, the least clinical parts first, and of these the largest
first: values that no mapping reads, then documents. Fields that the payload model declares are never cut.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from fhirline.mappers.json_pointer import escape, is_list
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.declared_fields import Field, declared_fields
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.pipeline.limits import MAX_STRING, Cut, Limits, TooComplex, common_pointer, cut
from fhirline.mappers.pipeline.weight import OTHER, REPEATED, Weights, has_wide, weight

LEVELS = 3
"""Number of tries to map an event; each gives less to documents and to values that no mapping reads."""

_SHARES = ((1, 4), (8, 32), (128, 128))
"""Per level: which part of half the event's bytes documents may take at most, and values that no mapping reads."""


class Bounded(NamedTuple):
    """A body within the limits, and the whole one. ``cuts``: what the former lacks.

    ``shortened``: JSON Pointers of strings that were cut. ``further``: the next level at which more of the documents
    is cut, `LEVELS` where there is none.
    """

    body: Body
    whole: Body
    cuts: tuple[Cut, ...] = ()
    shortened: tuple[str, ...] = ()
    further: int = 1


def bounded(body: Body, model: type[Payload], limits: Limits, level: int = 0) -> Bounded:
    """Return a redacted body within the limits. ``model`` is the payload model that will read it.

    Raises TooComplex where the declared fields alone exceed them.

    >>> class Visit(Payload):
    ...     reason: str | None = None
    >>> found = bounded({"reason": "Cough", "extra": {"a": 1, "b": [0] * 100_000}}, Visit, Limits())
    >>> found.body["reason"], found.body["extra"]["a"], len(found.body["extra"]["b"])
    ('Cough', 1, 1000)
    >>> [(cut.pointer, cut.values, cut.size, cut.start) for cut in found.cuts]
    [('/extra/b', 99000, 198001, 1000)]
    """
    if level == 0 and _is_small(body, limits):
        return Bounded(body, body)
    return _Bounder(limits, level).bounded(body, model)


def _is_small(body: Body, limits: Limits) -> bool:
    """Return whether a body is far from every limit. Most are: a leaf has a comma or an opening bracket before it."""
    few, small = min(limits.kept, limits.items), limits.kept_bytes // 4
    written = orjson.dumps(body, default=str)
    most = written.count(b",") + written.count(b"{") + written.count(b"[")
    if most <= few and most * len(written) <= small:
        return True
    if len(body) > few or has_wide(body, few):
        return False
    values, size = weight(body)
    return values <= few and size <= small


class _Part(NamedTuple):
    """A part of the body that may be cut: where it belongs, the pointer above it, and whether a mapping reads it.

    A body may have hundreds of thousands of them, of which most are one number each.
    """

    container: Any
    key: Any
    value: Any
    above: str
    read: bool

    @property
    def pointer(self) -> str:
        """The part's JSON Pointer."""
        key = self.key
        return f"{self.above}/{escape(key) if key.__class__ is str else key}"


class _Bounder:
    """Bounds one body at one level."""

    def __init__(self, limits: Limits, level: int) -> None:
        self._limits = limits
        self._half = limits.bytes // 2
        self._unit = max(1, self._half // limits.values)
        self._level = level
        self._weight = Weights(limits.items)
        self._parts: list[_Part] = []
        self._declared = 0
        self.cuts: list[Cut] = []
        self.shortened: list[str] = []

    def bounded(self, body: Body, model: type[Payload]) -> Bounded:
        made = self._object(body, model, "")
        if self._declared > self._half:
            raise TooComplex("values")
        for_documents, for_unread = (self._half // share for share in _SHARES[self._level])
        documents = [part for part in self._parts if part.read]
        left = self._half - self._declared
        taken = self._share(documents, min(left, for_documents))
        further = next(
            (level for level in range(self._level + 1, LEVELS) if taken > self._half // _SHARES[level][0]), LEVELS
        )
        self._share([part for part in self._parts if not part.read], min(left - taken, for_unread))
        return Bounded(made, body, tuple(self.cuts), tuple(self.shortened), further)

    # -- declared fields: never cut

    def _object(self, value: dict[str, Any], model: type[Payload], pointer: str) -> dict[str, Any]:
        """Copy an object that a model describes; what may be cut of it becomes a part."""
        made: dict[str, Any] = {}
        known = declared_fields(model)
        read = not known or model.read_whole
        for key, item in value.items():
            declared = known.get(key)
            if declared is None or declared.document:
                made[key] = item  # keeps the order of the members
                self._parts.append(_Part(made, key, item, pointer, read or declared is not None))
            else:
                made[key] = self._member(item, declared, pointer, made, key)
        return made

    def _member(self, item: Any, declared: Field, above: str, container: Any, key: str) -> Any:
        """Copy the value of a declared field."""
        place = f"{above}/{escape(key)}"
        made: Any
        entries: Iterable[tuple[Any, Any]]
        if isinstance(item, list):
            made, entries = [None] * len(item), enumerate(item)
        elif declared.many and is_list(item):
            made, entries = {}, item.items()
        else:
            return self._value(item, declared.model, above, container, key)
        if len(item) > self._limits.items:
            raise TooComplex("items", _LONG_NUMBER.sub("*", place))
        for at, entry in entries:
            made[at] = self._value(entry, declared.model, place, made, at)
        return made

    def _value(self, item: Any, model: type[Payload] | None, above: str, container: Any, key: Any) -> Any:
        part = _Part(container, key, item, above, read=False)
        place = part.pointer
        if isinstance(item, dict) and model is not None:
            return self._object(item, model, place)
        if isinstance(item, dict | list) and item:
            self._parts.append(part)
            return item
        self._declared += self._unit + len(place) + (len(item) if isinstance(item, str) else OTHER)
        return self._text(item, place)

    # -- parts: cut where they exceed their share

    def _share(self, parts: Sequence[_Part], budget: int, cost: int | None = None) -> int:
        """Fit parts into a budget, the smallest ones first; return what they take.

        The values of parts that get no share become one Cut, at the deepest place that is above all of them. ``cost``
        is that of the only part, where it is known.
        """
        costs = [self._part_cost(part) for part in parts] if cost is None else [cost]
        order = sorted(range(len(parts)), key=costs.__getitem__)
        most, taken = budget // self._unit, 0
        if len(order) > most:
            order, left = order[:most], order[most:]
            self._cut_parts([parts[number] for number in sorted(left)])
        for before, number in enumerate(order):
            part, share = parts[number], (budget - taken) // (len(order) - before)
            if costs[number] <= share and costs[number] <= MAX_STRING and not isinstance(part.value, dict | list):
                taken += costs[number]  # a number or a short text that fits
                continue
            fitted = self._fit(part.value, part.pointer, share, part.read, costs[number])
            if fitted is _CUT:
                _remove(part.container, part.key)
            else:
                part.container[part.key] = fitted
            taken += self._unit if fitted is _CUT else min(costs[number], share)
        return taken

    def _cut_parts(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            _remove(part.container, part.key)
        by_pointer = {part.pointer: part.value for part in parts}
        place = common_pointer(by_pointer)
        content = parts[0].value if len(parts) == 1 else by_pointer
        values = sum(
            self._weight(value)[0] if value.__class__ is dict or value.__class__ is list else 1
            for value in by_pointer.values()
        )
        self.cuts.append(cut(place, content, values, read=parts[0].read))

    def _fit(self, value: Any, pointer: str, budget: int, read: bool, cost: int) -> Any:
        """Return a value that fits into a budget; `_CUT` where all of it was cut. ``cost`` is the value's."""
        if cost <= budget and not self._weight(value)[2]:
            return self._texts(value, pointer)
        if value and pointer.count("/") <= _DEEPEST:
            most = budget // (self._unit + REPEATED * len(pointer))
            if isinstance(value, dict) and len(value) <= most:
                return self._fit_object(value, pointer, budget, read, cost)
            if isinstance(value, list) and most > 0:
                return self._fit_list(value, pointer, budget, min(most, self._limits.items), read, cost)
        self.cuts.append(cut(pointer, value, self._weight(value)[0], read=read))
        return _CUT

    def _fit_object(self, value: dict[str, Any], pointer: str, budget: int, read: bool, cost: int) -> dict[str, Any]:
        """Fit the members of an object. A single member has the cost of the object, unless its key is escaped."""
        made = dict(value)
        parts = [_Part(made, key, item, pointer, read) for key, item in value.items()]
        self._share(parts, budget, cost if len(parts) == 1 and not _ESCAPED.search(parts[0].key) else None)
        return made

    def _fit_list(self, value: list[Any], pointer: str, budget: int, most: int, read: bool, cost: int) -> list[Any]:
        made = value[:most]
        parts = [_Part(made, at, item, pointer, read) for at, item in enumerate(made[:])]
        self._share(parts, budget, cost if len(value) == 1 else None)
        if len(value) > most:
            values = self._weight(value)[0] - weight(value[:most])[0]
            self.cuts.append(cut(pointer, value[most:], values, most, read))
        return made

    # -- costs, in bytes

    def _part_cost(self, part: _Part) -> int:
        key, value = part.key, part.value
        pointer = len(part.above) + 1 + (len(escape(key)) if key.__class__ is str else len(str(key)))
        if value.__class__ is dict or value.__class__ is list:
            values, size, _ = self._weight(value)
            return values * (self._unit + REPEATED * pointer) + size
        return self._unit + REPEATED * pointer + (len(value) if value.__class__ is str else OTHER)

    # -- strings

    def _texts(self, value: Any, pointer: str) -> Any:
        """Cut the long strings of a value; a value without them is returned as it is."""
        if isinstance(value, str):
            return self._text(value, pointer)
        if not isinstance(value, dict | list) or self._weight(value)[1] <= MAX_STRING:
            return value
        if isinstance(value, dict):
            return {key: self._texts(item, f"{pointer}/{escape(key)}") for key, item in value.items()}
        return [self._texts(item, f"{pointer}/{position}") for position, item in enumerate(value)]

    def _text(self, value: Any, pointer: str) -> Any:
        if isinstance(value, str) and len(value) > MAX_STRING:
            self.shortened.append(pointer)
            return value[:MAX_STRING]
        return value


_LONG_NUMBER = re.compile(r"(?<=/)[0-9]{4,}(?=/|$)")
"""A key of an object with decimal keys that may be data, such as a telephone number (`schema_drift` hides it too)."""

_ESCAPED = re.compile("[~/]")
"""A character that is escaped in a pointer, where it takes two."""

_DEEPEST = 100
"""Levels below which a part that does not fit is cut as a whole."""

_CUT = object()


def _remove(container: Any, key: Any) -> None:
    """Remove a member of an object. An item of a list becomes null, so that the others keep their positions."""
    if isinstance(container, dict):
        container.pop(key, None)
    else:
        container[key] = None
