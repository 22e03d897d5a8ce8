"""The compiled validator against fhir.resources, on mutants: never looser, and stricter only where we know why."""

import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from fhirline.mappers.fhir.validation import Problem, compiled, fhir_resources
from fhirline.mappers.fhir.validation.invariants import by_key
from tests.support.validation.mutants import mutants
from tests.support.validation.samples import goldens, samples

MUTANTS = 12_000

LENIENCIES = {
    1: "required bindings",
    2: "required CodeableConcept bindings",
    3: "reference targets and syntax",
    4: "FHIRPath invariants",
    5: "JSON types",
    6: "nulls, empties, blank strings",
    7: "ids, uris, base64, xhtml",
    8: "a missing resourceType, Python-side names",
    9: "contained in contained, extensions with both or neither",
    10: "unknown contained resource types",
}
"""What fhir.resources does not enforce (validation.md §2)."""

_OF_CODE = {
    "literal_error": 1,
    "required-binding": 2,
    "reference-target": 3,
    "reference-syntax": 3,
    "ref-1": 3,
    "empty": 6,
    "too_short": 6,
    "txt-1": 7,
    "txt-2": 7,
    "string_too_long": 7,
    "union_tag_not_found": 8,
    "ext-1": 9,
    "union_tag_invalid": 10,
}
_JSON_TYPES = {"string_type", "bool_type", "int_type", "int_from_float", "float_type", "dict_type", "list_type"}


@pytest.mark.long
def test_never_looser_and_stricter_only_by_a_known_leniency() -> None:
    resources = _bases()
    assert not [resource for resource in resources if compiled(resource) or fhir_resources(resource)], (
        "the bases must be valid"
    )
    verdicts: Counter[str] = Counter()
    stricter: Counter[int | None] = Counter()
    mutations: Counter[str] = Counter()
    for name, mutant in mutants(resources, MUTANTS, seed=20_240_601):
        mutations[name] += 1
        found, reference = compiled(mutant), fhir_resources(mutant)
        verdicts[f"{'refused' if found else 'valid'} / {'refused' if reference else 'valid'}"] += 1
        assert found or not reference, f"{name}: fhir.resources alone refuses {reference[:3]}"
        if found and not reference:
            leniencies = {_leniency(item, mutant) for item in found}
            assert leniencies <= set(LENIENCIES), f"{name}: {found}"
            stricter.update(leniencies)
    print("\ncompiled / fhir.resources:", dict(verdicts))
    print("mutations:", dict(sorted(mutations.items())))
    for number, leniency in LENIENCIES.items():
        print(f"{stricter[number]:6} stricter: {number}. {leniency}")
    assert sum(mutations.values()) >= 10_000
    assert verdicts["valid / valid"] > MUTANTS / 10, "mutations should leave some resources valid"
    assert verdicts["refused / refused"] > MUTANTS / 10


def _bases() -> list[dict[str, Any]]:
    """Every sample and up to eight golden outputs of each type, so that no vendor's volume decides."""
    drawn = random.Random(1)
    by_type = defaultdict(list)
    for golden in goldens():
        by_type[golden["resourceType"]].append(golden)
    held = [item for _, of_type in sorted(by_type.items()) for item in drawn.sample(of_type, min(8, len(of_type)))]
    return samples() + held


def _leniency(problem: Problem, mutant: dict[str, Any]) -> int | None:
    """The number of the leniency by which a problem escapes fhir.resources; None if there is none."""
    if problem.code in _OF_CODE:
        return _OF_CODE[problem.code]
    if problem.code in by_key():
        return 4
    names = problem.path.split(".")[1:]
    if problem.code == "extra_forbidden":
        if names[-1].endswith(("__ext", "_fhir")):
            return 8
        return 9 if names[-1] == "contained" and "contained" in names[:-1] else None
    if problem.code == "missing":  # it stands under its Python-side name
        return 8 if f"{names[-1]}_fhir" in _at(mutant, names[:-1]) else None
    value = _at(mutant, names)
    if problem.code in _JSON_TYPES:
        return 6 if value is None else 5
    if problem.code == "string_pattern_mismatch" and isinstance(value, str):
        if value.strip(" \t\r\n") == "" or any(item.isspace() and item not in " \t\r\n" for item in value):
            return 6
        in_form = names[-1] in {"id", "data", "hash", "valueBase64Binary"} or any(item.isspace() for item in value)
        return 7 if in_form else None
    return None


def _at(value: Any, names: list[str]) -> Any:
    for name in names:
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value
