"""The weight of parsed JSON: its leaves, their pointers and their texts (mapping.md §1.1)."""

from collections.abc import Iterable
from typing import Any

OTHER = 8
"""Bytes that a value other than a text counts for."""

REPEATED = 8
"""Times that the pointer of a value counts: resources, Bundle and state may repeat it."""

_REMEMBERED = 64
"""The weight of containers of more leaves is cached, so that a deep body is not weighed again at each level."""


def weight(value: Any) -> tuple[int, int]:
    """Return the number of leaves of a container, and the characters of their pointers and texts together."""
    values = size = 0
    if value.__class__ is dict:
        for key, item in value.items():
            kind = item.__class__
            if (kind is dict or kind is list) and item:
                below, inner = weight(item)
                values += below
                size += inner + below * (len(key) + 1)
            else:
                values += 1
                size += len(key) + 1 + (len(item) if kind is str else 0)
        return values, size
    step = len(str(len(value))) + 1
    for item in value:
        kind = item.__class__
        if (kind is dict or kind is list) and item:
            below, inner = weight(item)
            values += below
            size += inner + below * step
        else:
            values += 1
            size += step + (len(item) if kind is str else 0)
    return values, size


def has_wide(value: Iterable[Any], most: int) -> bool:
    """Return whether a container at the first two levels below ``value`` has more members than ``most``.

    A cheap test that spares the widest bodies `weight`.
    """
    for container in value.values() if isinstance(value, dict) else value:
        if container.__class__ is dict or container.__class__ is list:
            if len(container) > most:
                return True
            for inner in container.values() if container.__class__ is dict else container:
                if (inner.__class__ is dict or inner.__class__ is list) and len(inner) > most:
                    return True
    return False


class Weights:
    """The weights of one body's values, as `bounds` counts them. ``most``: items of a list that is not too long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, tuple[int, int, bool]] = {}

    def __call__(self, value: Any) -> tuple[int, int, bool]:
        """Return number of leaves, bytes below the value's own pointer, and whether a list has too many items."""
        if not isinstance(value, dict | list) or not value:
            return 1, len(value) if isinstance(value, str) else OTHER, False
        return self._known.get(id(value)) or self._weigh(value)

    def _weigh(self, value: dict[str, Any] | list[Any]) -> tuple[int, int, bool]:
        """Weigh a container as `weight` does. The weight of large ones is cached, so that each leaf is visited once."""
        outer, above = id(value), 0
        while len(value) == 1:  # one below the other, without a call for each
            if isinstance(value, dict):
                ((key, only),) = value.items()
                step = REPEATED * (len(key) + 1)
            else:
                (only,), step = value, 2 * REPEATED
            if not ((only.__class__ is dict or only.__class__ is list) and only):
                return 1, above + step + (len(only) if only.__class__ is str else OTHER), False
            above += step
            value = only
        values, size, wide = self._known.get(id(value)) or self._weigh_members(value)
        found = values, size + values * above, wide
        if values > _REMEMBERED:
            self._known[outer] = found
        return found

    def _weigh_members(self, value: dict[str, Any] | list[Any]) -> tuple[int, int, bool]:
        """Weigh a container of several members."""
        values, size, weights, is_object = 0, 0, self._known, isinstance(value, dict)
        wide = not is_object and len(value) > self._most
        above = REPEATED * (len(str(len(value))) + 1)
        members: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            if is_object:
                above = REPEATED * (len(key) + 1)
            kind = item.__class__
            if (kind is dict or kind is list) and item:
                below, inner, wider = weights.get(id(item)) or self._weigh(item)
                values += below
                size += inner + below * above
                wide = wide or wider
            else:
                values += 1
                size += above + (len(item) if kind is str else OTHER)
        if values > _REMEMBERED:
            weights[id(value)] = values, size, wide
        return values, size, wide
