"""The check for empty values (ele-1): ``{}``, ``[]``, ``""`` and ``null`` outside of lists of primitives.

The narrow schema accepts none of them, so that only resources accepted by the whole schema are walked.
"""

from collections.abc import Iterator
from typing import Any

from fhirline.mappers.fhir.validation.problems import Problem
from fhirline.mappers.results import Resource


def empties(resource: Resource) -> list[Problem]:
    """Return a Problem for each empty value in a resource."""
    return [Problem(path, "empty", message) for path, message in _found(str(resource.get("resourceType")), resource)]


def _found(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if not value:
            yield path, "An object must have content"
        for name, content in value.items():
            if isinstance(content, list):
                yield from _found_in_list(f"{path}.{name}", content, value.get(_companion(name)))
            else:
                yield from _found(f"{path}.{name}", content)
    elif isinstance(value, str):
        if not value or value.isspace():
            yield path, "A string must have content"
    elif value is None:
        yield path, "null is no value"


def _found_in_list(path: str, items: list[Any], companion: Any) -> Iterator[tuple[str, str]]:
    """Yield a list's empty values. A null is allowed where the companion list has a value, and the reverse."""
    if not items:
        yield path, "A list must have content"
    paired = companion if isinstance(companion, list) else []
    for position, item in enumerate(items):
        if item is None and position < len(paired) and paired[position] is not None:
            continue
        yield from _found(f"{path}.{position}", item)


def _companion(name: str) -> str:
    return name[1:] if name.startswith("_") else f"_{name}"
