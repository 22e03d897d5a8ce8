"""Forms of ICD-10 codes, and the setting that names their edition (mapping.md §9.2.2)."""

from typing import Any

import pytest
from pydantic import ValidationError

from fhirline.config.vendors import TenantSettings
from fhirline.mappers.icd10 import icd10_coding
from fhirline.mappers.pipeline.normalize import Normalized
from tests.support.cases import Case

WHO = "http://hl7.org/fhir/sid/icd-10"
CM = "http://hl7.org/fhir/sid/icd-10-cm"


@pytest.mark.parametrize(
    "code", ["A00", "L81.2", "U07.1", "W19.01", "X59.90", "M54.56", "S72.01", "Z00.0", "Z99.89", "Y98"]
)
def test_codes_of_whos_form_are_coded(code: str) -> None:
    assert icd10_coding(code, WHO) == {"system": WHO, "code": code}


@pytest.mark.parametrize(
    "code",
    ["S69.90XA", "C7A.0", "L81.23456", "E11.651", "A17.0†", "G01*", "b66.3", "L812", "L81.", "L8", "L81.2A", "L81 .2"],
)
def test_codes_of_another_form_are_not_whos(code: str) -> None:
    assert icd10_coding(code, WHO) is None


@pytest.mark.parametrize("code", ["S69.90XA", "C7A.0", "L81.2", "E11.651", "T36.0X1A"])
def test_a_national_edition_has_its_own_form(code: str) -> None:
    assert icd10_coding(code, CM) == {"system": CM, "code": code}


@pytest.mark.parametrize("code", ["A17.0†", "L81.23456", "b66.3", "S6990XA", "junk"])
def test_what_no_edition_has_is_not_coded(code: str) -> None:
    assert icd10_coding(code, CM) is None


@pytest.mark.parametrize(
    ("setting", "system"),
    [
        ("icd-10", WHO),
        ("icd-10-cm", CM),
        ("icd-10-am", "http://hl7.org/fhir/sid/icd-10-am"),
        ("icd-10-gm", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"),
        (CM, CM),
        ("urn:oid:2.16.840.1.113883.6.3", "urn:oid:2.16.840.1.113883.6.3"),
    ],
)
def test_the_edition_is_a_name_or_a_uri(setting: str, system: str) -> None:
    assert TenantSettings.model_validate({"icd10_system": setting}).icd10_system == system
    assert TenantSettings.model_validate({}).icd10_system == WHO


@pytest.mark.parametrize("setting", ["ICD-10-CM", "icd10cm", "cm", "icd-10-", ""])
def test_another_word_is_a_mistake(setting: str) -> None:
    with pytest.raises(ValidationError):
        TenantSettings.model_validate({"icd10_system": setting})


def altibbi(**item: str) -> dict[str, Any]:
    return {"type": "recommendation_data", "consultation_id": 1, "user_id": 1, "data": {"icd10": {"diagnosis": [item]}}}


def infermedica(**item: str) -> dict[str, Any]:
    ranked = {"id": "c_1", "name": "Synthetic", "probability": 0.5, "icd10": [item]}
    assessed = {"evidence_assessment": {"conditions": [ranked]}}
    return {
        "event_type": "survey_finished",
        "content": {"survey_id": "s"},
        "summary": {"patient": {"id": "p"}},
        **assessed,
    }


def codings(result: Normalized) -> list[dict[str, str]]:
    """The ICD-10 codings of an event."""
    found: list[dict[str, str]] = []
    for output in result.outputs:
        concepts = [output.resource.get("code", {})] if output.resource["resourceType"] == "Condition" else []
        concepts += [prediction["outcome"] for prediction in output.resource.get("prediction", ())]
        found += [coding for concept in concepts for coding in concept.get("coding", ()) if "icd" in coding["system"]]
    return found


@pytest.mark.parametrize("vendor", [altibbi, infermedica])
@pytest.mark.parametrize(
    ("code", "edition", "coded"),
    [
        ("L81.2 ", "icd-10", "L81.2"),
        ("\u00a0L81.2\n", "icd-10", "L81.2"),
        ("S69.90XA", "icd-10", None),
        ("S69.90XA", "icd-10-cm", "S69.90XA"),
        ("A17.0†", "icd-10-cm", None),
    ],
)
def test_both_vendors_read_codes_alike(vendor: Any, code: str, edition: str, coded: str | None) -> None:
    name = vendor.__name__
    (result,) = Case(name, "-", (vendor(code=code),), settings={"icd10_system": edition}).run()
    system = f"http://hl7.org/fhir/sid/{edition}"
    assert codings(result) == ([{"system": system, "code": coded}] if coded else [])
    assert ("code-invalid" in {flag.code for flag in result.flags}) == (coded is None)


def test_white_space_is_no_part_of_the_key() -> None:
    made = []
    for code in ("L81.2", " L81.2 "):
        (result,) = Case("altibbi", "-", (altibbi(code=code),)).run()
        made += [output.key for output in result.outputs if output.resource["resourceType"] == "Condition"]
    assert len(made) == 2
    assert len(set(made)) == 1
