"""Narratives (mapping.md §13): every resource tells what it holds, safely, and is otherwise what it is without."""

import dataclasses
import json
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest

from fhirline.config import tables
from fhirline.mappers.fhir.narrative import XHTML
from fhirline.mappers.fhir.narratives import identifiers, narrated
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.normalize import Normalized
from fhirline.mappers.results import Resource
from tests.support.cases import Case, cases

CASES = {f"{case.vendor}/{case.name}": case for case in cases()}
ELEMENTS = {"div", "p", "ul", "li", "pre"}


def switched(case: Case, on: bool) -> Case:
    return dataclasses.replace(case, settings={**(case.settings or {}), "narratives": on})


@cache
def narrated_case(name: str) -> list[Normalized]:
    return switched(CASES[name], on=True).run()


def resources(results: list[Normalized]) -> list[Resource]:
    return [output.resource for result in results for output in (*result.outputs, result.outcome) if output is not None]


def words(resource: Resource) -> list[str]:
    """The narrative's lines, read back as a browser reads them."""
    return [text for item in ElementTree.fromstring(resource["text"]["div"]).iter() if (text := item.text)]


@pytest.mark.parametrize("name", CASES)
def test_every_resource_has_one_behind_its_meta_and_is_valid(name: str) -> None:
    results = narrated_case(name)
    assert [refusal for result in results for refusal in result.refusals if refusal.code == "resource-invalid"] == []
    for resource in resources(results):
        assert list(resource)[2:4] == ["meta", "text"]
        assert resource["text"]["status"] in ("generated", "extensions")


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_changes(name: str) -> None:
    plain = resources(switched(CASES[name], on=False).run())
    told = resources(narrated_case(name))
    assert len(plain) == len(told)
    for without, with_text in zip(plain, told, strict=True):
        left = with_text if "text" in without else {key: value for key, value in with_text.items() if key != "text"}
        assert json.dumps(left) == json.dumps(without)


@pytest.mark.parametrize("name", CASES)
def test_it_is_flat_xhtml_that_says_something(name: str) -> None:
    for resource in resources(narrated_case(name)):
        div = ElementTree.fromstring(resource["text"]["div"])
        assert div.tag == f"{{{XHTML}}}div"
        assert {item.tag.removeprefix(f"{{{XHTML}}}") for item in div.iter()} <= ELEMENTS
        assert all(item.attrib == {} for item in div.iter())
        assert words(resource)


@pytest.mark.parametrize("name", CASES)
def test_every_flag_is_told_in_plain_words(name: str) -> None:
    definitions = tables.flags().flags
    for resource in resources(narrated_case(name)):
        if resource["resourceType"] == "Composition":
            continue
        codes = [tag["code"] for tag in resource["meta"]["tag"] if tag["system"].endswith("/data-quality")]
        assert {definitions[code].text for code in codes} <= set(words(resource))


DEMOGRAPHIC = ("Patient", "Composition", "Provenance", "OperationOutcome")
"""Types that tell no vendor's text: a Patient goes by identifier, a Composition's sections carry it."""


@pytest.mark.parametrize("name", CASES)
def test_the_vendors_words_are_told(name: str) -> None:
    """Each sentence of a vendor that a resource holds verbatim is in its narrative too."""
    sent = {value for body in CASES[name].events for _, value in leaves_of(body) if isinstance(value, str)}
    for resource in resources(narrated_case(name)):
        if resource["resourceType"] in DEMOGRAPHIC:
            continue
        told = " ".join(" ".join(words(resource)).split())
        without = {key: value for key, value in resource.items() if key not in ("text", "meta", "contained")}
        for place, value in leaves_of(without):
            spoken = isinstance(value, str) and value in sent and " " in value.strip() and "://" not in value
            if spoken and "/telecom/" not in place:
                assert " ".join(value.split()) in told, f"{resource['resourceType']}{place}"


def test_a_patient_goes_by_identifier() -> None:
    patients = [
        resource for resource in resources(narrated_case("azodha/narratives")) if resource["resourceType"] == "Patient"
    ]
    assert patients
    for patient in patients:
        assert words(patient)[0] == "Patient: patient123"
        told = " ".join(words(patient))
        for name in patient.get("name", ()):
            assert name.get("family", "?") not in told


def test_markup_of_the_vendors_is_text() -> None:
    told = resources(narrated_case("altibbi/hostile_text")) + resources(narrated_case("mediquo/markup"))
    divs = "".join(resource["text"]["div"] for resource in told)
    assert "&lt;script" in divs
    assert "<script" not in divs


CONTENT: dict[str, Any] = {
    "resourceType": "Condition",
    "id": "a",
    "meta": {"tag": [{"system": "https://x/CodeSystem/data-quality", "code": "code-invalid"}]},
    "extension": [
        {
            "url": "https://x/StructureDefinition/source-data",
            "extension": [{"url": "path", "valueString": "/a"}, {"url": "value", "valueString": "<b>"}],
        }
    ],
    "code": {"coding": [{"system": "s", "code": "B66.3", "display": "Words"}], "text": "Words"},
    "subject": {"reference": "Patient/p"},
    "recordedDate": "2024-01-01",
    "_recordedDate": {"extension": [{"url": "https://x/StructureDefinition/value-basis", "valueCode": "event-time"}]},
}


def test_the_template() -> None:
    patient = {"resourceType": "Patient", "id": "p", "identifier": [{"value": "4711"}, {"value": "MR 1"}]}
    made = narrated(CONTENT, identifiers([patient, CONTENT]))
    assert list(made)[:5] == ["resourceType", "id", "meta", "text", "extension"]
    assert made["text"] == {
        "status": "extensions",
        "div": f'<div xmlns="{XHTML}"><p>Condition: Words (B66.3)</p><p>Patient: 4711, MR 1</p>'
        "<p>Recorded: 2024-01-01 (time of the event, no other is stated)</p>"
        "<ul><li>Sent as /a: &lt;b&gt;</li></ul>"
        "<ul><li>A code of the source has not the format of its system.</li></ul></div>",
    }


def test_what_extensions_do_not_add_to_is_generated() -> None:
    plain = {key: value for key, value in CONTENT.items() if key not in ("extension", "_recordedDate")}
    assert narrated(plain, {})["text"]["status"] == "generated"


def test_a_narrative_of_its_own_stays() -> None:
    own = {**CONTENT, "text": {"status": "additional", "div": "<div/>"}}
    assert narrated(own, {}) is own
