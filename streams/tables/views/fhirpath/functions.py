"""FHIRPath's functions whose input and arguments are values. Those that take expressions are in the compiler."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, TypeAlias

from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError
from fhirline.streams.tables.views.fhirpath.values import Collection, contained, distinct, single, text, truth

Function: TypeAlias = Callable[..., Collection]


@lru_cache(maxsize=256)
def _pattern(written: str) -> re.Pattern[str]:
    try:
        return re.compile(written, re.DOTALL)
    except re.error as error:
        raise FhirPathError(f"{written!r} is no regular expression: {error}") from None


def _whole(items: Collection) -> int:
    number = single(items)
    if type(number) is not int:
        raise FhirPathError("a whole number is needed as the argument")
    return number


def _on_text(function: Callable[..., Any]) -> Function:
    """Make a function of texts one of collections. Without an input, or an argument, there is no result."""

    def on_text(items: Collection, *arguments: Collection) -> Collection:
        if not items:
            return []
        taken = [single(argument) for argument in arguments]
        if None in taken:
            return []
        result = function(text(single(items)), *taken)
        return [] if result is None else [result]

    return on_text


def _join(items: Collection, separator: Collection | None = None) -> Collection:
    between = single(separator) if separator else ""
    return [text(between).join([text(item) for item in items])]


def _not(items: Collection) -> Collection:
    held = truth(items)
    return [] if held is None else [not held]


def _substring(value: str, start: int, length: int | None = None) -> str | None:
    if not 0 <= start < len(value):
        return None
    return value[start:] if length is None else value[start : start + max(length, 0)]


def _replaced(value: str, pattern: str, new: str) -> str:
    try:
        return _pattern(pattern).sub(_replacement(new), value)
    except (re.error, IndexError):
        raise FhirPathError(f"{new!r} names a group that {pattern!r} does not have") from None


def _to_integer(items: Collection) -> Collection:
    value = single(items)
    if isinstance(value, bool | int):
        return [int(value)]
    return [int(value)] if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value) else []


def _to_decimal(items: Collection) -> Collection:
    value = single(items)
    if value is None:
        return []
    try:
        number = Decimal(text(int(value) if isinstance(value, bool) else value).strip())
    except (InvalidOperation, FhirPathError):
        return []
    return [number] if number.is_finite() else []


def _resource_key(items: Collection) -> Collection:
    return [item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]


def reference_keys(references: Collection, resource_type: str | None) -> Collection:
    """Return the ids of the resources that relative or absolute references name, of one type where one is given.

    A contained resource (``#med``) and a logical reference have no id.
    """
    keys = []
    for item in references:
        reference = item.get("reference") if isinstance(item, dict) else None
        if isinstance(reference, str):
            named, slash, key = reference.split("/_history", 1)[0].rpartition("/")
            if slash and (resource_type is None or named.rpartition("/")[2] == resource_type):
                keys.append(key)
    return keys


FUNCTIONS: Final[Mapping[str, tuple[int, int, Function]]] = {
    "empty": (0, 0, lambda items: [not items]),
    "not": (0, 0, _not),
    "count": (0, 0, lambda items: [len(items)]),
    "first": (0, 0, lambda items: items[:1]),
    "last": (0, 0, lambda items: items[-1:]),
    "tail": (0, 0, lambda items: items[1:]),
    "skip": (1, 1, lambda items, number: items[max(_whole(number), 0) :]),
    "take": (1, 1, lambda items, number: items[: max(_whole(number), 0)]),
    "single": (0, 0, lambda items: [] if single(items) is None else items),
    "distinct": (0, 0, distinct),
    "isDistinct": (0, 0, lambda items: [len(distinct(items)) == len(items)]),
    "union": (1, 1, lambda items, other: distinct([*items, *other])),
    "combine": (1, 1, lambda items, other: [*items, *other]),
    "intersect": (1, 1, lambda items, other: [item for item in distinct(items) if contained(item, other)]),
    "exclude": (1, 1, lambda items, other: [item for item in items if not contained(item, other)]),
    "join": (0, 1, _join),
    "split": (1, 1, lambda items, sign: [part for item in items for part in text(item).split(text(single(sign)))]),
    "hasValue": (0, 0, lambda items: [len(items) == 1 and not isinstance(items[0], dict)]),
    "toString": (0, 0, lambda items: [text(single(items))] if items else []),
    "toInteger": (0, 0, _to_integer),
    "toDecimal": (0, 0, _to_decimal),
    "getResourceKey": (0, 0, _resource_key),
    "startsWith": (1, 1, _on_text(str.startswith)),
    "endsWith": (1, 1, _on_text(str.endswith)),
    "contains": (1, 1, _on_text(lambda value, part: part in value)),
    "matches": (1, 1, _on_text(lambda value, pattern: _pattern(pattern).search(value) is not None)),
    "replace": (2, 2, _on_text(lambda value, old, new: value.replace(old, new))),
    "replaceMatches": (2, 2, _on_text(_replaced)),
    "indexOf": (1, 1, _on_text(lambda value, part: value.find(part))),
    "substring": (1, 2, _on_text(_substring)),
    "length": (0, 0, _on_text(len)),
    "lower": (0, 0, _on_text(str.lower)),
    "upper": (0, 0, _on_text(str.upper)),
    "trim": (0, 0, _on_text(str.strip)),
}
"""Functions by name: fewest and most arguments, and the function of input and arguments."""


def _replacement(written: str) -> str:
    """Write a replacement as Python does: ``$1`` is ``\\g<1>``."""
    return re.sub(r"\$(\d+)", r"\\g<\1>", written.replace("\\", r"\\"))
