"""Finds what the golden outputs contain that R4 does not define: our extensions, codes and identifiers, by place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.cases import BASE
from tests.support.paths import GOLDEN

Json = Any


@dataclass(frozen=True)
class Found:
    """An extension, a Coding or an Identifier of ours. ``path`` is FHIR's, of the element that has it."""

    path: str
    value: dict[str, Any]
    case: str


def golden_resources() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every resource and outcome of the golden cases, with the case's name."""
    for file in sorted(GOLDEN.glob("*/*.out.json")):
        for event in json.loads(file.read_text("utf-8")):
            for resource in (*event["resources"], event["outcome"]):
                if resource is not None:
                    yield f"{file.parent.name}/{file.name.removesuffix('.out.json')}", resource


@cache
def found_extensions() -> list[Found]:
    return [
        Found(path, extension, case)
        for case, path, element in elements()
        for extension in element.get("extension", ())
        if extension["url"].startswith(BASE)
    ]


@cache
def found_codings() -> list[Found]:
    return [found for found in _with_system() if "code" in found.value]


@cache
def found_identifiers() -> list[Found]:
    return [found for found in _with_system() if "code" not in found.value]


def _with_system() -> Iterator[Found]:
    for case, path, element in elements():
        if str(element.get("system", "")).startswith(BASE):
            yield Found(path, element, case)


@cache
def elements() -> list[tuple[str, str, dict[str, Any]]]:
    """Every element of the golden outputs that is an object: case, FHIR path, JSON."""
    return [
        (case, path, element)
        for case, resource in golden_resources()
        for path, element in _below(resource["resourceType"], resource)
    ]


def _below(path: str, value: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, list):
        for item in value:
            yield from _below(path, item)
    elif isinstance(value, dict):
        yield path, value
        for name, member in value.items():
            if name in ("contained", "resource"):
                for inner in member if isinstance(member, list) else [member]:
                    yield from _below(inner["resourceType"], inner)
            else:
                yield from _below(f"{path}.{name.removeprefix('_')}", member)
