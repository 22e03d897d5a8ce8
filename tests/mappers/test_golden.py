"""Every golden case maps to what was approved: a new case is two files and no code."""

import json

import pytest

from fhirline.topics.declared import RESOURCE_TYPES
from tests.support.cases import Case, cases, shown


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.vendor}/{case.name}")
def test_maps_to_what_was_approved(case: Case, approve: bool) -> None:
    made = shown(case.run())
    if approve:
        case.approved.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert case.approved.exists(), f"{case.approved.name} is missing: run pytest --approve, then read what it wrote"
    assert made == json.loads(case.approved.read_text("utf-8"))


def test_every_type_of_resource_has_a_topic() -> None:
    made = {output.resource["resourceType"] for case in cases() for result in case.run() for output in result.outputs}
    assert made - {*RESOURCE_TYPES} == set(), "add them to RESOURCE_TYPES in topics/declared.py"


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.vendor}/{case.name}")
def test_every_output_is_valid(case: Case) -> None:
    assert [refusal for result in case.run() for refusal in result.refusals if refusal.code == "resource-invalid"] == []
