"""Mode ``spec``: the narrow schema decides nearly always; the whole one says what is wrong."""

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
"""Messages of pydantic-core that would quote the value, in our words."""


def compiled(resource: Resource) -> Sequence[Problem]:
    """Mode ``spec``. The schemas are compiled when first needed, the whole one when something is first refused."""
    return [] if is_plain(resource) else whole(resource)


def is_plain(resource: Resource) -> bool:
    """Whether the narrow schema knows all of it and finds it valid; if not, it may still be valid."""
    context = _contained(resource) if "contained" in resource else None
    try:
        return bool(narrow_validator().validate_python(resource, context=context) == resource)
    except ValidationError:
        return False


@cache
def emitted() -> Mapping[str, Emitted]:
    """The elements that our mappings emit, by structure: ``config/emitted-elements.json``."""
    loaded = orjson.loads((files("fhirline.config") / "emitted-elements.json").read_bytes())
    return {
        name: Emitted(frozenset(elements["always"]), frozenset(elements["sometimes"]))
        for name, elements in loaded.items()
    }


@cache
def narrow_validator() -> SchemaValidator:
    """The schema of just the elements we emit."""
    return Builder(emitted()).compiled(RESOURCE_TYPES)


@cache
def whole_validator() -> SchemaValidator:
    """The schema of all that R4 knows of our types."""
    return Builder().compiled(RESOURCE_TYPES)


def whole(resource: Resource) -> list[Problem]:
    """All problems of a resource, by the whole schema."""
    resource_type = resource.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in RESOURCE_TYPES:
        return [Problem("resourceType", "unknown-type", "The resource type is missing or none that fhirline writes")]
    inner = _of_entries(resource) if resource_type == "Bundle" else []
    checked = _without_resources(resource) if inner else resource  # the Bundle's rules look into its resources
    try:
        whole_validator().validate_python(checked, context=_contained(resource))
    except ValidationError as error:
        return [*_problems(resource_type, error), *inner]
    return inner or empties(resource)


def _of_entries(bundle: Resource) -> list[Problem]:
    entries = bundle.get("entry")
    return [
        problem
        for position, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and "resource" in entry
        for problem in _of_entry(position, entry["resource"])
    ]


def _without_resources(bundle: Resource) -> Resource:
    entries = [
        {name: value for name, value in each.items() if name != "resource"} if isinstance(each, dict) else each
        for each in bundle["entry"]
    ]
    return {**bundle, "entry": entries}


def _of_entry(position: int, resource: Any) -> list[Problem]:
    at = f"Bundle.entry.{position}.resource"
    if not isinstance(resource, dict):
        return [Problem(at, "dict_type", "A resource must be an object")]
    return [
        Problem(f"{at}.{each.path.partition('.')[2]}".rstrip("."), each.code, each.message) for each in whole(resource)
    ]


def _contained(resource: Resource) -> dict[str, str] | None:
    """What ``#x`` can mean in this resource: id → type of its contained resources."""
    if "contained" not in resource:
        return None
    contained = resource["contained"]
    if not isinstance(contained, list):
        return None
    return {
        each["id"]: str(each.get("resourceType"))
        for each in contained
        if isinstance(each, dict) and isinstance(each.get("id"), str)
    }


def _problems(resource_type: str, error: ValidationError) -> list[Problem]:
    found = []
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        at = [str(part) for part in each["loc"][1:]]  # the first is the resource type, as the tag of the union
        if at and at[-1] == FAST:  # the other branch of the union says it better
            continue
        path = ".".join([resource_type, *_without_labels(at)])
        found.append(Problem(path, each["type"], _QUIET.get(each["type"], each["msg"])))
    return found


def _without_labels(at: Sequence[str]) -> Iterator[str]:
    """The path without what pydantic-core puts in of unions: branches, and the type after ``contained.0``."""
    for position, part in enumerate(at):
        if part != OTHER and not (part in RESOURCE_TYPES and at[:position][-2:-1] == ["contained"]):
            yield part
