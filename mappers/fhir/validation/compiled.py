"""Validate resources in mode ``spec``, with a narrow schema and a whole one (validation.md §3.1).

The narrow schema is fast and accepts nearly all resources that are valid. Those that it does not accept are validated
by the whole schema, which finds the problems.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from pydantic_core import SchemaValidator, ValidationError

from fhirline.mappers.fhir.validation.empties import empties
from fhirline.mappers.fhir.validation.primitives import FAST, OTHER
from fhirline.mappers.fhir.validation.problems import Problem
from fhirline.mappers.fhir.validation.schema import Builder, Emitted
from fhirline.mappers.fhir.validation.structures import RESOURCE_TYPES
from fhirline.mappers.results import Resource

_QUIET = {
    "union_tag_invalid": "No such resource type",
    "union_tag_not_found": "resourceType required",
}
"""Replacements for messages of pydantic-core that quote the value."""


def compiled(resource: Resource) -> Sequence[Problem]:
    """Validate a resource (mode ``spec``). Each schema is compiled when first needed."""
    return [] if is_plain(resource) else whole(resource)


def is_plain(resource: Resource) -> bool:
    """Return whether the narrow schema covers a resource and finds it valid. If not, it may still be valid."""
    context = _contained(resource) if "contained" in resource else None
    try:
        return bool(narrow_validator().validate_python(resource, context=context) == resource)
    except ValidationError:
        return False


@cache
def emitted() -> Mapping[str, Emitted]:
    """Return the elements that our mappings emit, by structure (``config/emitted-elements.json``)."""
    loaded = orjson.loads((files("fhirline.config") / "emitted-elements.json").read_bytes())
    return {
        name: Emitted(frozenset(elements["always"]), frozenset(elements["sometimes"]))
        for name, elements in loaded.items()
    }


@cache
def narrow_validator() -> SchemaValidator:
    """Return the schema of only the elements that our mappings emit."""
    return Builder(emitted()).compiled(RESOURCE_TYPES)


@cache
def whole_validator() -> SchemaValidator:
    """Return the schema of all elements that R4 defines for our resource types."""
    return Builder().compiled(RESOURCE_TYPES)


def whole(resource: Resource) -> list[Problem]:
    """Return all problems of a resource, by the whole schema."""
    resource_type = resource.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in RESOURCE_TYPES:
        return [Problem("resourceType", "unknown-type", "The resource type is missing or none that fhirline writes")]
    inner = _entries_problems(resource) if resource_type == "Bundle" else []
    checked = _without_resources(resource) if inner else resource  # the Bundle's invariants read its resources
    try:
        whole_validator().validate_python(checked, context=_contained(resource))
    except ValidationError as error:
        return [*_problems(resource_type, error), *inner]
    return inner or empties(resource)


def _entries_problems(bundle: Resource) -> list[Problem]:
    entries = bundle.get("entry")
    return [
        problem
        for position, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and "resource" in entry
        for problem in _entry_problems(position, entry["resource"])
    ]


def _without_resources(bundle: Resource) -> Resource:
    entries = [
        {name: value for name, value in entry.items() if name != "resource"} if isinstance(entry, dict) else entry
        for entry in bundle["entry"]
    ]
    return {**bundle, "entry": entries}


def _entry_problems(position: int, resource: Any) -> list[Problem]:
    at = f"Bundle.entry.{position}.resource"
    if not isinstance(resource, dict):
        return [Problem(at, "dict_type", "A resource must be an object")]
    return [
        Problem(f"{at}.{found.path.partition('.')[2]}".rstrip("."), found.code, found.message)
        for found in whole(resource)
    ]


def _contained(resource: Resource) -> dict[str, str] | None:
    """Return id → type of the contained resources, which ``#id`` may refer to; None without a list of them."""
    if "contained" not in resource:
        return None
    contained = resource["contained"]
    if not isinstance(contained, list):
        return None
    return {
        inner["id"]: str(inner.get("resourceType"))
        for inner in contained
        if isinstance(inner, dict) and isinstance(inner.get("id"), str)
    }


def _problems(resource_type: str, error: ValidationError) -> list[Problem]:
    found = []
    for details in error.errors(include_input=False, include_url=False, include_context=False):
        at = [str(part) for part in details["loc"][1:]]  # the first part is the resource type, the tag of the union
        if at and at[-1] == FAST:  # the union's other branch reports the same with a better message
            continue
        path = ".".join([resource_type, *_without_labels(at)])
        found.append(Problem(path, details["type"], _QUIET.get(details["type"], details["msg"])))
    return found


def _without_labels(at: Sequence[str]) -> Iterator[str]:
    """Yield the parts of a path without pydantic-core's labels of unions: branches, and types after ``contained.0``."""
    for position, part in enumerate(at):
        if part != OTHER and not (part in RESOURCE_TYPES and at[:position][-2:-1] == ["contained"]):
            yield part
