"""The resources of the approved outputs of all golden cases, as they are on the topics."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.support.paths import GOLDEN

Resource = dict[str, Any]


@cache
def golden_resources() -> tuple[Resource, ...]:
    """Return every resource and every outcome of every case, in a fixed order. One of several events comes as often."""
    return tuple(
        resource
        for path in sorted(GOLDEN.rglob("*.out.json"))
        for resource in _resources(json.loads(path.read_bytes()))
    )


def golden_resources_of(resource_type: str) -> list[Resource]:
    return [resource for resource in golden_resources() if resource["resourceType"] == resource_type]


def _resources(found: Any) -> Iterator[Resource]:
    if isinstance(found, dict):
        if "resourceType" in found and found["resourceType"] != "Bundle":
            yield found
        else:
            for value in found.values():
                yield from _resources(value)
    elif isinstance(found, list):
        for value in found:
            yield from _resources(value)
