"""JSON Pointers (RFC 6901), by which leaves of a vendor's body are named.

>>> parts("/a~1b/0")
('a/b', '0')
>>> value_at({"a/b": ["x"]}, "/a~1b/0")
'x'
>>> list(leaves_of({"a": {"b": 1}, "c": []}))
[('/a/b', 1), ('/c', [])]
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any


def escape(key: str) -> str:
    """Escape an object's key as a reference token: ``~`` is ``~0``, ``/`` is ``~1``."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """Return the key that a reference token stands for."""
    return token.replace("~1", "/").replace("~0", "~")


@lru_cache(maxsize=4096)
def parts(pointer: str) -> tuple[str, ...]:
    """Return the unescaped reference tokens of a pointer; none for ``""``, the whole document."""
    return tuple(map(unescape, pointer.split("/")[1:]))


def value_at(value: Any, pointer: str) -> Any:
    """Return the value at a pointer into parsed JSON; None where the pointer leads nowhere."""
    for part in parts(pointer):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def leaves_of(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of every leaf of parsed JSON, in document order; an empty container is a leaf.

    ``pointer`` is the place of ``value`` itself and begins every pointer.
    """
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves_of(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from leaves_of(item, f"{pointer}/{position}")
    else:
        yield pointer, value
