"""JSON Pointers (RFC 6901), by which leaves of a vendor's body are named.

>>> parts("/a~1b/0")
('a/b', '0')
>>> value_at({"a/b": ["x"]}, "/a~1b/0")
'x'
>>> list(leaves_of({"a": {"b": 1}, "c": []}))
[('/a/b', 1), ('/c', [])]
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_POSITION = re.compile(r"[0-9]{1,15}", re.ASCII)


def escape(key: str) -> str:
    """Escape an object's key as a reference token: ``~`` is ``~0``, ``/`` is ``~1``."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """Return the key that a reference token stands for."""
    return token.replace("~1", "/").replace("~0", "~")


LONGEST_CACHED = 500
"""Longest pointer or key that is cached: longer ones would fill the memory."""


def parts(pointer: str) -> tuple[str, ...]:
    """Return the unescaped reference tokens of a pointer; none for ``""``, the whole document."""
    return _parts(pointer) if len(pointer) <= LONGEST_CACHED else _parts.__wrapped__(pointer)


@lru_cache(maxsize=4096)
def _parts(pointer: str) -> tuple[str, ...]:
    return tuple(map(unescape, pointer.split("/")[1:]))


def value_at(value: Any, pointer: str) -> Any:
    """Return the value at a pointer into parsed JSON; None where the pointer leads nowhere."""
    for part in _parts(pointer) if len(pointer) <= LONGEST_CACHED else parts(pointer):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def items_by_number(value: Any) -> list[tuple[str, Any]] | None:
    """Return (key, item) of an object whose keys are all decimal numbers, in numeric order; None for any other value.

    PHP writes a list with a gap as such an object (mapping.md §2.4).

    >>> items_by_number({"10": "b", "9": "a"})
    [('9', 'a'), ('10', 'b')]
    >>> items_by_number({"9": "a", "name": "b"}) is None, items_by_number({}) is None
    (True, True)
    """
    if not isinstance(value, dict) or not value or not all(map(_POSITION.fullmatch, value)):
        return None
    return sorted(value.items(), key=lambda member: (int(member[0]), member[0]))


def items_of(value: Any, pointer: str) -> list[tuple[str, Any]]:
    """Return (pointer, item) of each item of a list, as `payload.Items` reads it (mapping.md §2.4).

    The items of an object with decimal keys keep the sender's keys. Any other value is the only item, at ``pointer``.

    >>> items_of(["a"], "/x"), items_of({"3": "a"}, "/x"), items_of({"name": "a"}, "/x")
    ([('/x/0', 'a')], [('/x/3', 'a')], [('/x', {'name': 'a'})])
    """
    if isinstance(value, list):
        return [(f"{pointer}/{position}", item) for position, item in enumerate(value)]
    numbered = items_by_number(value)
    return [(pointer, value)] if numbered is None else [(f"{pointer}/{key}", item) for key, item in numbered]


def is_list(value: Any) -> bool:
    """Return whether a value is a list: an array, or an object whose keys are all decimal numbers."""
    return isinstance(value, list) or items_by_number(value) is not None


def leaves_of(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of every leaf of parsed JSON, in document order; an empty container is a leaf.

    The items of an object with decimal keys are in numeric order.
    ``pointer`` is the place of ``value`` itself and begins every pointer.
    """
    if isinstance(value, dict) and value:
        for key, item in items_by_number(value) or value.items():
            yield from leaves_of(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from leaves_of(item, f"{pointer}/{position}")
    else:
        yield pointer, value
