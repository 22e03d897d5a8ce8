"""The part of a JSON Pointer that may be shown, and schema drift: paths of values that no rule treats.

A path becomes a label of a metric, a pointer an expression of an outcome or a header of a dead letter, so that they
must not hold patients' data, and a key can be data: in a map by names or numbers. Both therefore consist of declared
keys, and at most one undeclared key at their end: the first one, if it reads like a field's name and is among declared
keys.
"""

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from pydantic import BaseModel

from fhirline.mappers.json_pointer import escape, items_by_number, unescape
from fhirline.mappers.pipeline.declared_fields import declared_fields
from fhirline.mappers.pipeline.ledger import LOOKS_SECRET, UNRULED, Ledger

_DRIFT_RULES = (UNRULED, LOOKS_SECRET)
_FIELD_NAME = re.compile(r"(?=.{1,40}$)[a-z][A-Za-z]*(?:_[A-Za-z]+)*")
"""Field names as vendors write them, in snake_case or camelCase. ``Jane``, ``jane.doe`` and ``p4711`` do not match."""

_MOST_UNDECLARED = 8
"""Undeclared keys of one object that may be shown: a release adds a few fields, a map has a key per entry."""

_MOST_PATHS = 100
"""Paths of one event at most: each is a label of a metric."""

_HIDDEN = "*"

_LONGEST_POSITION = 3
"""Digits of the longest key that is shown as a position in a list that was sent as an object."""


class ShownPointers:
    """Shortens the JSON Pointers of one event to what may be shown (mapping.md §6). Positions in lists are shown.

    What a pointer names beyond the body comes from a mapping, and is shown: a field that is missing, say.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._paths: _Paths | None = None

    def __call__(self, pointer: str) -> str:
        """Return the part of a pointer that may be shown. Any other text, such as a FHIRPath, is returned unchanged."""
        if not pointer.startswith("/"):
            return pointer
        return self._place(pointer).path

    def drift(self, pointer: str) -> str:
        """Return the path of a leaf of the body, in which positions are ``*``."""
        return self._place(pointer).drift

    def _place(self, pointer: str) -> "_Place":
        if self._paths is None:
            self._paths = _Paths(self._ledger)
        return self._paths.leaf(pointer)


def schema_drift(ledger: Ledger, pointers: ShownPointers) -> tuple[str, ...]:
    """Return the paths of leaves that no rule treats or that have an unexpected form, to be counted per vendor.

    A path never holds a value, nor a key that may be one. List positions are ``*``, and so is an undeclared key that
    does not read like a field's name, or that is in an object with no declared key or with more than
    `_MOST_UNDECLARED` undeclared ones. A path ends there, and at an object that no model describes. The paths are
    sorted, each once, however many leaves of the event have it.
    """
    drifting = [leaf.pointer for leaf in ledger.notable if leaf.rule in _DRIFT_RULES]
    if not drifting:
        return ()
    return tuple(sorted(set(map(pointers.drift, drifting))))[:_MOST_PATHS]


class _Place(NamedTuple):
    """A place in the body: the part of its pointer that may be shown, its value, and what the model read there."""

    path: str
    drift: str
    """``path`` with ``*`` for each position in a list."""
    value: Any = None
    read: Any = None
    ends: bool = False
    """True if nothing below this place may be shown."""


class _Paths:
    """Finds the paths of one event. Each object is examined once, however many leaves it has."""

    def __init__(self, ledger: Ledger) -> None:
        mapped, model = ledger.mapped, ledger.model
        modelled = model is not None and bool(declared_fields(type(model)))
        self._claimed = None if modelled or mapped.claims is None else _with_ancestors(mapped.claims)
        self._hidden_keys = frozenset(mapped.hidden_keys)
        self._places = {"": _Place("", "", ledger.whole, model)}
        self._may_show: dict[str, bool] = {}
        self._positions_of: dict[str, dict[str, int]] = {}

    def leaf(self, pointer: str) -> _Place:
        """Return a leaf's place, which is not cached."""
        above, found, token = pointer.rpartition("/")
        return self._below(self._place(above), above, token) if found else self._places[""]

    def _place(self, pointer: str) -> _Place:
        if pointer not in self._places:
            above, _, token = pointer.rpartition("/")
            self._places[pointer] = self._below(self._place(above), above, token)
        return self._places[pointer]

    def _below(self, at: _Place, pointer: str, token: str) -> _Place:
        """Return the place one step below ``at``, whose own pointer is ``pointer``."""
        path, drift, value, read, ends = at
        if ends:
            return at
        if self._claimed is None and isinstance(read, BaseModel) and token in value:  # most steps
            if (found := declared_fields(type(read)).get(token)) is not None:
                return _Place(f"{path}/{token}", f"{drift}/{token}", value[token], getattr(read, found.attribute))
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            position = int(token)
            item = read[position] if isinstance(read, tuple) and position < len(read) else None
            return _Place(f"{path}/{token}", f"{drift}/{_HIDDEN}", value[position], item)
        if not isinstance(value, dict) or unescape(token) not in value:  # a place that only the mapping names
            return _Place(f"{path}/{token}", f"{drift}/{token}")
        ranks = self._ranks(pointer, value)
        if ranks and (isinstance(read, tuple) or self._claimed is not None):
            rank = ranks[token]
            label = token if len(token) <= _LONGEST_POSITION else _HIDDEN
            below = read[rank] if isinstance(read, tuple) and rank < len(read) else None
            return _Place(f"{path}/{label}", f"{drift}/{_HIDDEN}", value[token], below)
        if isinstance(read, tuple):
            read = read[0] if read else None  # an object in place of a list is read as a list of one
        if not self._is_described(pointer, read):
            return _Place(path, drift, ends=True)
        key = unescape(token)
        declared, below = self._declared(pointer, key, read)
        if declared:
            return _Place(f"{path}/{token}", f"{drift}/{token}", value[key], below)
        shown = _FIELD_NAME.fullmatch(key) and self._may_show_undeclared(pointer, value, read)
        end = key if shown else _HIDDEN
        return _Place(f"{path}/{end}", f"{drift}/{end}", ends=True)

    def _ranks(self, pointer: str, value: Mapping[str, Any]) -> Mapping[str, int]:
        """Return the positions of the keys of an object that is a list (mapping.md §2.4); none for another one."""
        if pointer not in self._positions_of:
            numbered = items_by_number(value) or ()
            self._positions_of[pointer] = {key: rank for rank, (key, _) in enumerate(numbered)}
        return self._positions_of[pointer]

    def _is_described(self, pointer: str, read: Any) -> bool:
        """Return whether a model or a claim declares that an object's keys are field names."""
        if self._claimed is None:
            return isinstance(read, BaseModel)
        return not any(pointer == hidden or pointer.startswith(f"{hidden}/") for hidden in self._hidden_keys)

    def _declared(self, pointer: str, key: str, read: Any) -> tuple[bool, Any]:
        """Return whether a key of a described object is declared, and what the model read there."""
        if self._claimed is not None:
            return f"{pointer}/{escape(key)}" in self._claimed, None
        model: type[BaseModel] = type(read)
        found = declared_fields(model).get(key)
        return (True, getattr(read, found[0])) if found else (False, None)

    def _may_show_undeclared(self, pointer: str, value: Mapping[str, Any], read: Any) -> bool:
        """Return whether a described object has declared keys, and few enough undeclared ones to show them."""
        if pointer not in self._may_show:
            declared = sum(self._declared(pointer, key, read)[0] for key in value)
            self._may_show[pointer] = declared > 0 and len(value) - declared <= _MOST_UNDECLARED
        return self._may_show[pointer]


def _with_ancestors(claims: Iterable[str]) -> Set[str]:
    """Return the claimed pointers and all pointers above them."""
    found: set[str] = set()
    for claim in claims:
        pointer = claim
        while pointer not in found:
            found.add(pointer)
            pointer = pointer.rpartition("/")[0]
    return found
