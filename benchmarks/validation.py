"""What validation costs against fhir.resources, over an interleaved mix of the types we emit. Prints JSON.

    python -m benchmarks.validation [--repeats N]

One run measures all four in turn, so that their ratios hold on a noisy machine: `model_validate`; the compiled
validator; `model_validate` + `model_dump_json`; the compiled validator + `orjson.dumps` of the very dict it checked.
The mix is every golden output and one sample of each type that no golden has yet; microseconds a resource, medians.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
from fhir.resources.R4B import get_fhir_model_class

from mappers.fhir.validation import validator
from mappers.fhir.validation.compiled import is_plain
from tests.validation_samples import goldens, samples

GOALS = {"validate": 20, "validate and serialize": 30}


def mix() -> list[dict[str, Any]]:
    """The resources measured, interleaved as a stream has them (seeded)."""
    from_goldens = goldens()
    held = {each["resourceType"] for each in from_goldens}
    resources = from_goldens + [each for each in samples() if each["resourceType"] not in held]
    random.Random(7).shuffle(resources)
    return resources


def measure(repeats: int) -> dict[str, Any]:
    """Medians over ``repeats`` passes of the mix."""
    resources = mix()
    compiled = validator("spec")
    models: dict[str, Any] = {each["resourceType"]: get_fhir_model_class(each["resourceType"]) for each in resources}

    def model_validate(resource: dict[str, Any]) -> object:
        return models[resource["resourceType"]].model_validate(resource)

    def model_validate_and_dump(resource: dict[str, Any]) -> object:
        return models[resource["resourceType"]].model_validate(resource).model_dump_json()

    def validate(resource: dict[str, Any]) -> object:
        return compiled(resource)

    def validate_and_dump(resource: dict[str, Any]) -> object:
        compiled(resource)
        return orjson.dumps(resource)

    ways: list[Callable[[dict[str, Any]], object]] = [
        model_validate,
        validate,
        model_validate_and_dump,
        validate_and_dump,
    ]
    assert not any(compiled(each) for each in resources), "the mix must be valid"
    for way in ways:  # warm up: models and schemas are built when first used
        _pass(way, resources, 1)
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            inner = 1 if way.__name__.startswith("model") else 10
            times[way.__name__].append(_pass(way, resources, inner))
    medians = {name: round(statistics.median(each) * 1e6, 2) for name, each in times.items()}
    ratios = {
        "validate": round(medians["model_validate"] / medians["validate"], 1),
        "validate and serialize": round(medians["model_validate_and_dump"] / medians["validate_and_dump"], 1),
    }
    narrow = sum(is_plain(each) for each in resources)
    return {
        "microseconds": medians,
        "ratios": ratios,
        "goals": GOALS,
        "met": all(ratios[name] >= goal for name, goal in GOALS.items()),
        "repeats": repeats,
        "resources": len(resources),
        "bytes": round(statistics.mean(len(orjson.dumps(each)) for each in resources)),
        "types": dict(sorted(Counter(each["resourceType"] for each in resources).items())),
        "decided by the narrow schema": round(narrow / len(resources), 3),
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine(), "python": sys.version.split()[0]},
        "versions": {each: version(each) for each in ("fhir.resources", "pydantic-core", "orjson")},
    }


def _pass(way: Callable[[dict[str, Any]], object], resources: list[dict[str, Any]], inner: int) -> float:
    begun = time.perf_counter()
    for _ in range(inner):
        for each in resources:
            way(each)
    return (time.perf_counter() - begun) / inner / len(resources)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    print(json.dumps(measure(parser.parse_args().repeats), indent=1))
