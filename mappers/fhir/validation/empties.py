"""What is there must say something (ele-1): no ``{}``, ``[]``, ``""`` or stray ``null``.

The narrow schema lets none of them through, so only what the whole schema has accepted is walked for them.
"""

from collections.abc import Iterator
from typing import Any

from fhirline.mappers.fhir.validation.problems import Problem
from fhirline.mappers.results import Resource


def empties(resource: Resource) -> list[Problem]:
    """What is empty in a resource, by walking it."""
    return [Problem(path, "empty", message) for path, message in _found(str(resource.get("resourceType")), resource)]


def _found(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if not value:
            yield path, "An object must have content"
        for name, content in value.items():
            if isinstance(content, list):
                yield from _found_in_list(f"{path}.{name}", content, value.get(_twin(name)))
            else:
                yield from _found(f"{path}.{name}", content)
    elif isinstance(value, str):
        if not value or value.isspace():
            yield path, "A string must have content"
    elif value is None:
        yield path, "null is no value"


def _found_in_list(path: str, items: list[Any], twin: Any) -> Iterator[tuple[str, str]]:
    """A null may stand in a list of primitives where its companion list has something there, and the other way."""
    if not items:
        yield path, "A list must have content"
    paired = twin if isinstance(twin, list) else []
    for position, item in enumerate(items):
        if item is None and position < len(paired) and paired[position] is not None:
            continue
        yield from _found(f"{path}.{position}", item)


def _twin(name: str) -> str:
    return name[1:] if name.startswith("_") else f"_{name}"
