"""Comparison of two sets of resources for lineage: which leaves of the first are different or gone in the second."""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from enum import Enum
from typing import Any, NamedTuple

import orjson

from fhirline.mappers.results import Resource


class Change(Enum):
    """The change of a leaf: another value, or the leaf or its whole resource is gone."""

    VALUE = "value"
    LEAF_GONE = "leaf gone"
    RESOURCE_GONE = "resource gone"


class Difference(NamedTuple):
    """A leaf that changed: the resource's key (``Type/id``) and the leaf's path (FHIRPath)."""

    key: str
    path: str
    change: Change


def differences(base: Mapping[str, Resource], other: Mapping[str, Resource]) -> Iterator[Difference]:
    """Yield the leaves of ``base`` that are different in ``other``, or not there. Both are ``Type/id`` → resource."""
    counterparts = _counterparts(base, other)
    for key, resource in base.items():
        resource_type = resource["resourceType"]
        if key not in counterparts:
            yield from (Difference(key, path, Change.RESOURCE_GONE) for path, _ in leaf_paths(resource, resource_type))
        elif (counterpart := other[counterparts[key]]) is not resource:
            for path, change in _changes(resource, counterpart, resource_type):
                yield Difference(key, path, change)


def _counterparts(base: Mapping[str, Resource], other: Mapping[str, Resource]) -> dict[str, str]:
    """Pair resources: those of the same id, then the most similar ones of the same type."""
    pairs = {key: key for key in base if key in other}
    rest = [key for key in base if key not in pairs]
    new = [key for key in other if key not in pairs]
    if not rest or not new:
        return pairs
    for left, right in _most_similar([base[key] for key in rest], [other[key] for key in new]):
        if base[rest[left]]["resourceType"] == other[new[right]]["resourceType"]:
            pairs[rest[left]] = new[right]
    return pairs


def _most_similar(base: Sequence[Any], other: Sequence[Any]) -> list[tuple[int, int]]:
    """Pair positions by the number of leaves in common, the most similar first; each position is used once."""
    base_leaves, other_leaves = [_leaf_texts(item) for item in base], [_leaf_texts(item) for item in other]
    candidates = sorted(
        (-len(left & right), i, j) for i, left in enumerate(base_leaves) for j, right in enumerate(other_leaves)
    )
    pairs: dict[int, int] = {}
    for common, i, j in candidates:
        if common and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def _leaf_texts(value: Any) -> set[str]:
    return {f"{path} {text_of(leaf)}" for path, leaf in leaf_paths(value, "")}


def _changes(base: Any, other: Any, path: str) -> Iterator[tuple[str, Change]]:
    if isinstance(base, dict) and isinstance(other, dict):
        for name, value in base.items():
            if name in other:
                yield from _changes(value, other[name], f"{path}.{name}")
            else:
                yield from ((leaf, Change.LEAF_GONE) for leaf, _ in leaf_paths(value, f"{path}.{name}"))
    elif isinstance(base, list) and isinstance(other, list):
        yield from _item_changes(base, other, path)
    elif base != other:
        yield from ((leaf, Change.VALUE) for leaf, _ in leaf_paths(base, path))


def _item_changes(base: Sequence[Any], other: Sequence[Any], path: str) -> Iterator[tuple[str, Change]]:
    """Compare lists: equal items are matched wherever they have moved, the items between them in order."""
    if base == other:
        return
    matcher = SequenceMatcher(None, [*map(orjson.dumps, base)], [*map(orjson.dumps, other)], autojunk=False)
    for operation, start, end, other_start, other_end in matcher.get_opcodes():
        if operation in ("equal", "insert"):
            continue
        old, new = base[start:end], other[other_start:other_end]
        pairs = dict(_most_similar(old, new) if len(old) != len(new) else enumerate(range(len(old))))
        for position, item in enumerate(old):
            item_path = f"{path}[{start + position}]"
            if position in pairs:
                yield from _changes(item, new[pairs[position]], item_path)
            else:
                yield from ((leaf, Change.LEAF_GONE) for leaf, _ in leaf_paths(item, item_path))


def leaf_paths(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every leaf of a resource, paths as FHIRPath writes them: ``Patient.name[0].family``."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaf_paths(item, f"{path}.{name}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from leaf_paths(item, f"{path}[{position}]")
    else:
        yield path, value


def text_of(value: Any) -> str:
    """Return a JSON value as text; ``""`` for null and containers."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, dict | list) or value is None else json.dumps(value)
