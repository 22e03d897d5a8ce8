"""The cost of validation against fhir.resources, over an interleaved mix of the types we emit. Prints JSON.

    python -m benchmarks.validation [--repeats N]

One run measures all four in turn, so that their ratios hold on a noisy machine: `model_validate`; the compiled
validator; `model_validate` + `model_dump_json`; the compiled validator + `orjson.dumps` of the very dict it checked.
Two mixes, each interleaved as a stream has them: three golden outputs of each type (drawn by a seed; a sample where no
golden has the type), small enough to stay in the cache, as a resource is that has just been made; and every golden
output as often as it stands there, some two thousand, each met cold. Microseconds a resource, medians.
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

from fhirline.mappers.fhir.validation import validator
from fhirline.mappers.fhir.validation.compiled import is_plain
from tests.support.validation.samples import goldens, samples

EACH = 3
"""Resources of a type at most, in the mix that the goals are for."""

COLD = ("microseconds", "ratios", "resources")
"""The report's note on the second mix."""

GOALS = {"validate": 20, "validate and serialize": 30}


def mix(most: int | None = EACH) -> list[dict[str, Any]]:
    """The resources measured, ``most`` of a type; None: every golden."""
    drawn = random.Random(7)
    by_type: dict[str, list[dict[str, Any]]] = {sample["resourceType"]: [] for sample in samples()}
    for golden in goldens():
        by_type[golden["resourceType"]].append(golden)
    for sample in samples():
        if not by_type[sample["resourceType"]]:
            by_type[sample["resourceType"]].append(sample)
    resources = [item for held in by_type.values() for item in drawn.sample(held, min(most or len(held), len(held)))]
    drawn.shuffle(resources)
    return resources


def measure(repeats: int, most: int | None = EACH) -> dict[str, Any]:
    """Medians over ``repeats`` passes of the mix."""
    resources = mix(most)
    compiled = validator("spec")
    models: dict[str, Any] = {item["resourceType"]: get_fhir_model_class(item["resourceType"]) for item in resources}

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
    assert not any(compiled(item) for item in resources), "the mix must be valid"
    for way in ways:  # warm up: models and schemas are built when first used
        _pass(way, resources, 1)
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            inner = 1 if way.__name__.startswith("model") else 10
            times[way.__name__].append(_pass(way, resources, inner))
    medians = {name: round(statistics.median(item) * 1e6, 2) for name, item in times.items()}
    ratios = {  # of times of the same repeat, which the machine's other work hits alike
        "validate": _ratio(times["model_validate"], times["validate"]),
        "validate and serialize": _ratio(times["model_validate_and_dump"], times["validate_and_dump"]),
    }
    narrow = sum(is_plain(item) for item in resources)
    return {
        "microseconds": medians,
        "ratios": ratios,
        "goals": GOALS,
        "met": all(ratios[name] >= goal for name, goal in GOALS.items()),
        "repeats": repeats,
        "resources": len(resources),
        "bytes": round(statistics.mean(len(orjson.dumps(item)) for item in resources)),
        "types": dict(sorted(Counter(item["resourceType"] for item in resources).items())),
        "decided by the narrow schema": round(narrow / len(resources), 3),
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine(), "python": sys.version.split()[0]},
        "versions": {item: version(item) for item in ("fhir.resources", "pydantic-core", "orjson")},
    }


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(slow, fast, strict=True)), 1)


def _pass(way: Callable[[dict[str, Any]], object], resources: list[dict[str, Any]], inner: int) -> float:
    begun = time.perf_counter()
    for _ in range(inner):
        for resource in resources:
            way(resource)
    return (time.perf_counter() - begun) / inner / len(resources)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    cold = measure(max(3, repeats // 5), None)
    print(json.dumps({**measure(repeats), "every golden, cold": {name: cold[name] for name in COLD}}, indent=1))
