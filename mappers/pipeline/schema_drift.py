"""Drift: where an event holds what no rule speaks of, told by paths that name the vendor's fields and never a patient.

A path ends in a metric's label, where nobody expects patients' data, and a key may be data: a map by first names, or
by numbers. So a path is what is declared, and at most one key behind it: the first that is not, where it reads like
the name of a field and stands among declared ones.
"""

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from pydantic import BaseModel

from fhirline.mappers.pipeline.ledger import LOOKS_SECRET, UNRULED, Ledger, escape, fields, unescape

_DRIFTS = (UNRULED, LOOKS_SECRET)
_NAME = re.compile(r"(?=.{1,40}$)[a-z][A-Za-z]*(?:_[A-Za-z]+)*")
"""As vendors spell their fields, snake_case or camelCase; ``Jane``, ``jane.doe`` and ``p4711`` are none."""

_MOST = 8
"""Undeclared keys of one object that may be shown: a release adds some fields, a map has a key for everybody."""

_HIDDEN = "*"


def drift(ledger: Ledger) -> tuple[str, ...]:
    """Paths of which no rule speaks, or where something else stands than should: to be counted per vendor.

    Never a value, nor a key that may be one: positions in lists are ``*``, and so is an undeclared key that does not
    read like a field's name, that stands in an object without a declared one, or with more than `_MOST` undeclared
    ones. What is below it, and the keys of an object that no model describes, are left out. Sorted; each path once,
    however many of the event's leaves have it.
    """
    drifting = [leaf.pointer for leaf in ledger.remarks if leaf.rule in _DRIFTS]
    if not drifting:
        return ()
    paths = _Paths(ledger)
    return tuple(sorted({paths.path(pointer) for pointer in drifting}))


class _Place(NamedTuple):
    """A place of the body: what may be shown of its pointer, what stands there, and what it was read as."""

    path: str
    value: Any = None
    read: Any = None
    ends: bool = False
    """Of what is below nothing may be shown."""


class _Paths:
    """Of one event. Looks at each object once: it may have as many leaves as there is room in a body."""

    def __init__(self, ledger: Ledger) -> None:
        mapped, model = ledger.mapped, ledger.model
        modelled = model is not None and bool(fields(type(model)))
        self._claimed = None if modelled or mapped.claims is None else _down_to(mapped.claims)
        self._keyed = frozenset(mapped.keyed)
        self._places = {"": _Place("", ledger.body, model)}
        self._shows: dict[str, bool] = {}

    def path(self, pointer: str) -> str:
        """What may be shown of a leaf's pointer."""
        above, found, part = pointer.rpartition("/")
        return self._below(self._place(above), above, part).path if found else ""

    def _place(self, pointer: str) -> _Place:
        if pointer not in self._places:
            above, _, part = pointer.rpartition("/")
            self._places[pointer] = self._below(self._place(above), above, part)
        return self._places[pointer]

    def _below(self, at: _Place, pointer: str, part: str) -> _Place:
        path, value, read, ends = at
        if ends:
            return at
        if isinstance(value, list):
            position = int(part)
            return _Place(f"{path}/{_HIDDEN}", value[position], read[position] if isinstance(read, tuple) else None)
        if isinstance(read, tuple):  # an object sent for a list is read as a list of one
            read = read[0] if read else None
        if not self._described(pointer, read):
            return _Place(path, ends=True)
        key = unescape(part)
        declared, below = self._declared(pointer, key, read)
        if declared:
            return _Place(f"{path}/{part}", value[key], below)
        shown = _NAME.fullmatch(key) and self._shown(pointer, value, read)
        return _Place(f"{path}/{key if shown else _HIDDEN}", ends=True)

    def _described(self, pointer: str, read: Any) -> bool:
        """Whether a model, or a claim, says that an object's keys are names."""
        if self._claimed is None:
            return isinstance(read, BaseModel)
        return pointer not in self._keyed

    def _declared(self, pointer: str, key: str, read: Any) -> tuple[bool, Any]:
        """Whether a key of a described object is declared, and what was read there."""
        if self._claimed is not None:
            return f"{pointer}/{escape(key)}" in self._claimed, None
        model: type[BaseModel] = type(read)
        found = fields(model).get(key)
        return (True, getattr(read, found[0])) if found else (False, None)

    def _shown(self, pointer: str, value: Mapping[str, Any], read: Any) -> bool:
        """Whether a described object's undeclared keys may be: it has declared ones, and not too many others."""
        if pointer not in self._shows:
            declared = sum(self._declared(pointer, key, read)[0] for key in value)
            self._shows[pointer] = declared > 0 and len(value) - declared <= _MOST
        return self._shows[pointer]


def _down_to(claims: Iterable[str]) -> Set[str]:
    """The claims' pointers and all above them."""
    found: set[str] = set()
    for claim in claims:
        pointer = claim
        while pointer not in found:
            found.add(pointer)
            pointer = pointer.rpartition("/")[0]
    return found
