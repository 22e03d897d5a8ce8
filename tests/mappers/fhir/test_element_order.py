"""Canonical values are in FHIR's element order, a contract (docs/contracts.md) that parsed JSON would not show."""

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir_core.fhirabstractmodel import FHIRAbstractModel

from fhirline.mappers.fhir.validation import structures
from fhirline.mappers.fhir.validation.structures import ANY_RESOURCE, COMPANION, Structure, resource_structure
from tests.support.cases import Case, cases


@cache
def ranks(name: str, is_resource: bool) -> dict[str, float]:
    """Element → its place; a companion comes right behind its primitive."""
    model = get_fhir_model_class(name) if is_resource else cast(type[FHIRAbstractModel], structures._models[name])
    sequence = ["resourceType", "fhir_comments", *model.elements_sequence()]
    return {name: position for position, name in enumerate(sequence)} | {
        f"_{name}": position + 0.5 for position, name in enumerate(sequence)
    }


def disorder(value: dict[str, Any], structure: Structure, path: str) -> Iterator[str]:
    known = ranks(structure.name, structure.is_resource)
    names = [name for name in value if name in known]
    if names != sorted(names, key=known.__getitem__):
        yield f"{path}: {names}"
    for name, item in value.items():
        field = structure.fields.get(name)
        if field is None or field.structure in (None, COMPANION):
            continue
        for entry in item if isinstance(item, list) else [item]:
            if not isinstance(entry, dict):
                continue
            inner = resource_structure(entry["resourceType"]) if field.structure == ANY_RESOURCE else None
            yield from disorder(entry, inner or structures.structure(field.structure or ""), f"{path}.{name}")


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.vendor}/{case.name}")
def test_elements_stand_in_fhirs_order(case: Case) -> None:
    for result in case.run():
        for output in (*result.outputs, result.bundle, result.outcome):
            if output is not None:
                resource = orjson.loads(output.value)
                kind = resource["resourceType"]
                assert list(disorder(resource, resource_structure(kind), kind)) == []


def test_a_wrong_order_is_noticed() -> None:
    wrong = {"resourceType": "Encounter", "class": {"code": "VR", "system": "x"}, "status": "finished"}
    assert len(list(disorder(wrong, resource_structure("Encounter"), "Encounter"))) == 2
