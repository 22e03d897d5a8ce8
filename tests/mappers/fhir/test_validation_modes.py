"""The modes of validation, and what they do with disagreements between the validators."""

from collections.abc import Sequence

import pytest

from fhirline.mappers.fhir.validation import (
    Disagreement,
    Problem,
    both,
    compiled,
    fhir_resources,
    no_validation,
    sampled,
    validator,
)
from fhirline.mappers.results import Resource
from tests.support.validation.changes import alter
from tests.support.validation.samples import sample


def test_modes() -> None:
    assert validator("spec") is compiled
    assert validator("fhir.resources") is fhir_resources
    assert validator("off") is no_validation
    assert no_validation({"resourceType": "Nonsense"}) == []
    with pytest.raises(KeyError):
        validator("strict")


def test_both_unites_and_tells_disagreements() -> None:
    heard: list[Disagreement] = []
    validate = validator("both", heard.append)
    assert validate(sample("Encounter")) == ()
    assert [item.path for item in validate(alter("Encounter", "class"))] == ["Encounter.class", "Encounter.class"]
    assert heard == []
    assert [item.path for item in validate(alter("Encounter", status="done"))] == ["Encounter.status"]
    assert [(item.resource_type, len(item.compiled), len(item.reference)) for item in heard] == [("Encounter", 1, 0)]


def test_both_hears_of_what_only_the_reference_refuses() -> None:
    heard: list[Disagreement] = []
    validate = both(no_validation, heard.append)
    assert validate(alter("Encounter", "class"))
    assert [(item.compiled, bool(item.reference)) for item in heard] == [((), True)]


def test_sampled_compares_one_in_so_many_and_keeps_the_validators_verdict() -> None:
    heard: list[Disagreement] = []
    asked: list[str] = []

    def verdict(resource: Resource) -> Sequence[Problem]:
        asked.append(resource["id"])
        return []

    validate = sampled(verdict, every=3, on_disagreement=heard.append)
    invalid = alter("Encounter", "class")
    assert [validate(invalid) for _ in range(7)] == [[]] * 7
    assert len(asked) == 7
    assert len(heard) == 3
    with pytest.raises(ValueError, match="every"):
        sampled(compiled, every=0, on_disagreement=heard.append)
