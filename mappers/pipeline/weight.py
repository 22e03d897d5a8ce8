"""The weight of parsed JSON: its leaves, their pointers and their texts (mapping.md §1.1)."""

from collections.abc import Iterable
from typing import Any


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
