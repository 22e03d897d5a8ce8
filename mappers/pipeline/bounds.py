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
from fhirline.mappers.pipeline.weight import has_wide, weight

LEVELS = 3
"""Number of tries to map an event; each gives less to documents and to values that no mapping reads."""

_SHARES = ((1, 4), (8, 32), (128, 128))
"""Per level: which part of half the event's bytes documents may take at most, and values that no mapping reads."""


class Bounded(NamedTuple):
    """A body within the limits, and the whole one. ``cuts``: what the former lacks.

    ``shortened``: JSON Pointers of strings that were cut.
    """

    body: Body
    whole: Body
    cuts: tuple[Cut, ...] = ()
    shortened: tuple[str, ...] = ()


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
    """A part of the body that may be cut: where it belongs, its place, and whether a mapping reads it."""

    container: Any
    key: Any
    value: Any
    pointer: str
    read: bool


class _Bounder:
    """Bounds one body at one level."""

    def __init__(self, limits: Limits, level: int) -> None:
        self._limits = limits
        self._half = limits.bytes // 2
        self._unit = max(1, self._half // limits.values)
        self._shares = _SHARES[level]
        self._weights: dict[int, tuple[int, int, bool]] = {}
        self._parts: list[_Part] = []
        self._declared = 0
        self.cuts: list[Cut] = []
        self.shortened: list[str] = []

    def bounded(self, body: Body, model: type[Payload]) -> Bounded:
        made = self._object(body, model, "")
        if self._declared > self._half:
            raise TooComplex("values")
        for_documents, for_unread = (self._half // share for share in self._shares)
        documents = [part for part in self._parts if part.read]
        left = self._half - self._declared
        left -= self._share(documents, min(left, for_documents))
        self._share([part for part in self._parts if not part.read], min(left, for_unread))
        return Bounded(made, body, tuple(self.cuts), tuple(self.shortened))

    # -- declared fields: never cut

    def _object(self, value: dict[str, Any], model: type[Payload], pointer: str) -> dict[str, Any]:
        """Copy an object that a model describes; what may be cut of it becomes a part."""
        made: dict[str, Any] = {}
        known = declared_fields(model)
        for key, item in value.items():
            place = f"{pointer}/{escape(key)}"
            declared = known.get(key)
            if declared is None or declared.document:
                made[key] = item  # keeps the order of the members
                self._parts.append(_Part(made, key, item, place, declared is not None or not known or model.read_whole))
            else:
                made[key] = self._member(item, declared, place, made, key)
        return made

    def _member(self, item: Any, declared: Field, place: str, container: Any, key: Any) -> Any:
        """Copy the value of a declared field."""
        made: Any
        entries: Iterable[tuple[Any, Any]]
        if isinstance(item, list):
            made, entries = [None] * len(item), enumerate(item)
        elif declared.many and is_list(item):
            made, entries = {}, item.items()
        else:
            return self._value(item, declared.model, place, container, key)
        if len(item) > self._limits.items:
            raise TooComplex("items", _LONG_NUMBER.sub("*", place))
        for at, entry in entries:
            made[at] = self._value(entry, declared.model, f"{place}/{at}", made, at)
        return made

    def _value(self, item: Any, model: type[Payload] | None, place: str, container: Any, key: Any) -> Any:
        if isinstance(item, dict) and model is not None:
            return self._object(item, model, place)
        if isinstance(item, dict | list) and item:
            self._parts.append(_Part(container, key, item, place, read=False))
            return item
        self._declared += self._unit + len(place) + (len(item) if isinstance(item, str) else _OTHER)
        return self._text(item, place)

    # -- parts: cut where they exceed their share

    def _share(self, parts: Sequence[_Part], budget: int, cost: int | None = None) -> int:
        """Fit parts into a budget, the smallest ones first; return what they take.

        The values of parts that get no share become one Cut, at the deepest place that is above all of them. ``cost``
        is that of the only part, where it is known.
        """
        costs = [self._cost(part.value, len(part.pointer)) for part in parts] if cost is None else [cost]
        order = sorted(range(len(parts)), key=costs.__getitem__)
        most, taken = budget // self._unit, 0
        if len(order) > most:
            order, left = order[:most], order[most:]
            self._cut_parts([parts[number] for number in sorted(left)])
        for before, number in enumerate(order):
            part, share = parts[number], (budget - taken) // (len(order) - before)
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
        place = common_pointer(part.pointer for part in parts)
        content = parts[0].value if len(parts) == 1 else {part.pointer: part.value for part in parts}
        values = sum(self._weight(part.value)[0] for part in parts)
        self.cuts.append(cut(place, content, values, read=parts[0].read))

    def _fit(self, value: Any, pointer: str, budget: int, read: bool, cost: int) -> Any:
        """Return a value that fits into a budget; `_CUT` where all of it was cut. ``cost`` is the value's."""
        if cost <= budget and not self._weight(value)[2]:
            return self._texts(value, pointer)
        if value and pointer.count("/") <= _DEEPEST:
            most = budget // (self._unit + _REPEATED * len(pointer))
            if isinstance(value, dict) and len(value) <= most:
                return self._fit_object(value, pointer, budget, read, cost)
            if isinstance(value, list) and most > 0:
                return self._fit_list(value, pointer, budget, min(most, self._limits.items), read, cost)
        self.cuts.append(cut(pointer, value, self._weight(value)[0], read=read))
        return _CUT

    def _fit_object(self, value: dict[str, Any], pointer: str, budget: int, read: bool, cost: int) -> dict[str, Any]:
        """Fit the members of an object. A single member has the cost of the object, unless its key is escaped."""
        made = dict(value)
        parts = [_Part(made, key, item, f"{pointer}/{escape(key)}", read) for key, item in value.items()]
        self._share(parts, budget, cost if len(parts) == 1 and not _ESCAPED.search(parts[0].key) else None)
        return made

    def _fit_list(self, value: list[Any], pointer: str, budget: int, most: int, read: bool, cost: int) -> list[Any]:
        made = value[:most]
        parts = [_Part(made, at, item, f"{pointer}/{at}", read) for at, item in enumerate(made[:])]
        self._share(parts, budget, cost if len(value) == 1 else None)
        if len(value) > most:
            values = self._weight(value)[0] - weight(value[:most])[0]
            self.cuts.append(cut(pointer, value[most:], values, most, read))
        return made

    # -- costs, in bytes

    def _cost(self, value: Any, pointer: int) -> int:
        values, size, _ = self._weight(value)
        return values * (self._unit + _REPEATED * pointer) + size

    def _weight(self, value: Any) -> tuple[int, int, bool]:
        """Return number of leaves, bytes below the value's own pointer, and whether a list has too many items."""
        if not isinstance(value, dict | list) or not value:
            return 1, len(value) if isinstance(value, str) else _OTHER, False
        return self._weights.get(id(value)) or self._weigh(value)

    def _weigh(self, value: dict[str, Any] | list[Any]) -> tuple[int, int, bool]:
        """Weigh a container as `weight` does. The weight of large ones is cached, so that each leaf is visited once."""
        outer, above = id(value), 0
        while len(value) == 1:  # one below the other, without a call for each
            if isinstance(value, dict):
                ((key, only),) = value.items()
                step = _REPEATED * (len(key) + 1)
            else:
                (only,), step = value, 2 * _REPEATED
            if not ((only.__class__ is dict or only.__class__ is list) and only):
                return 1, above + step + (len(only) if only.__class__ is str else _OTHER), False
            above += step
            value = only
        values, size, wide = self._weights.get(id(value)) or self._weigh_members(value)
        found = values, size + values * above, wide
        if values > _REMEMBERED:
            self._weights[outer] = found
        return found

    def _weigh_members(self, value: dict[str, Any] | list[Any]) -> tuple[int, int, bool]:
        """Weigh a container of several members."""
        values, size, weights, is_object = 0, 0, self._weights, isinstance(value, dict)
        wide = not is_object and len(value) > self._limits.items
        above = _REPEATED * (len(str(len(value))) + 1)
        members: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            if is_object:
                above = _REPEATED * (len(key) + 1)
            kind = item.__class__
            if (kind is dict or kind is list) and item:
                below, inner, wider = weights.get(id(item)) or self._weigh(item)
                values += below
                size += inner + below * above
                wide = wide or wider
            else:
                values += 1
                size += above + (len(item) if kind is str else _OTHER)
        if values > _REMEMBERED:
            weights[id(value)] = values, size, wide
        return values, size, wide

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

_OTHER = 8
"""Bytes that a value other than a text counts for."""

_REPEATED = 8
"""Times that the pointer of a value counts: resources, Bundle and state may repeat it."""

_REMEMBERED = 64
"""The weight of containers of more leaves is cached, so that a deep body is not weighed again at each level."""

_CUT = object()


def _remove(container: Any, key: Any) -> None:
    """Remove a member of an object. An item of a list becomes null, so that the others keep their positions."""
    if isinstance(container, dict):
        container.pop(key, None)
    else:
        container[key] = None
