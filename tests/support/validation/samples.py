"""A small valid resource of every type the validator knows, in the shapes the mappings write. All synthetic."""

import copy
from collections.abc import Iterator
from typing import Any

import orjson

from tests.support.paths import GOLDEN
from tests.support.validation.parts import BASE, META
from tests.support.validation.samples_administrative import ADMINISTRATIVE
from tests.support.validation.samples_clinical import CLINICAL
from tests.support.validation.samples_others import OTHERS

SAMPLES = ADMINISTRATIVE + CLINICAL + OTHERS


def samples() -> list[dict[str, Any]]:
    """A fresh copy of each sample."""
    return copy.deepcopy(SAMPLES)


def sample(resource_type: str) -> dict[str, Any]:
    """A fresh copy of the sample of a type."""
    return copy.deepcopy(next(item for item in SAMPLES if item["resourceType"] == resource_type))


def goldens() -> list[dict[str, Any]]:
    """Every resource in the approved outputs, a Bundle as the pipeline validates it among them."""
    return list(_goldens())


def _goldens() -> Iterator[dict[str, Any]]:
    for path in sorted(GOLDEN.glob("*/*.out.json")):
        for event in orjson.loads(path.read_bytes()):
            yield from event["resources"]
            if event["outcome"]:
                yield event["outcome"]
            if event["resources"]:
                keys = [f"{resource['resourceType']}/{resource['id']}" for resource in event["resources"]]
                entry = [{"fullUrl": f"{BASE}/{key}", "request": {"method": "PUT", "url": key}} for key in keys]
                yield {"resourceType": "Bundle", "id": "b", "meta": META, "type": "transaction", "entry": entry}
