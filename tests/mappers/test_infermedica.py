"""Infermedica's two stages (mapping.md §10, §15.6)."""

import json
from typing import Any

import pytest

from fhirline.mappers.pipeline.normalize import Normalized
from fhirline.mappers.registry import raw_key
from tests.support.cases import Case, cases

SURVEY = "c7d8d208-3fc1-493a-a260-dc3157bc45e9"
THIN: dict[str, Any] = {"event_type": "survey_finished", "content": {"survey_id": SURVEY}}


def golden(name: str) -> Case:
    return next(case for case in cases() if (case.vendor, case.name) == ("infermedica", name))


def types(result: Normalized) -> list[str]:
    return [output.resource["resourceType"] for output in result.outputs]


def of_type(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def one(body: dict[str, Any], **settings: Any) -> Normalized:
    return Case("infermedica", "inline", (body,), settings=settings).run()[0]


def test_a_thin_event_is_a_response_of_nobody() -> None:
    (response,) = of_type(one(THIN), "QuestionnaireResponse")
    assert "subject" not in response
    assert response["id"] == "eb5aa3a5-c39d-5d5d-a150-7aa7fa35d2bf"


def test_an_enriched_event_is_all_but_a_diagnosis() -> None:
    result = golden("enriched-self-care").run()[0]
    assert of_type(result, "RiskAssessment")[0]["prediction"][0]["probabilityDecimal"] == 85.89
    triage = [item for item in of_type(result, "Observation") if item["status"] == "preliminary"]
    assert [item["valueCodeableConcept"]["coding"][0]["code"] for item in triage] == ["self_care"]
    assert not {"Condition", "Flag", "Task", "ServiceRequest", "AllergyIntolerance"} & set(types(result))
    assert types(result).count("Observation") == 3


@pytest.mark.parametrize("level", ["emergency_ambulance", "emergency", "consultation_24", "consultation", "self_care"])
def test_published_triage_levels_are_coded(level: str) -> None:
    summary = {"patient": {"id": "p"}}
    result = one({**THIN, "summary": summary, "evidence_assessment": {"triage": {"level": level}}})
    (triage,) = of_type(result, "Observation")
    assert triage["valueCodeableConcept"]["coding"][0]["code"] == triage["valueCodeableConcept"]["text"] == level


@pytest.mark.parametrize("sex", ["male", "female", "other", "unknown"])
def test_published_sexes_are_the_patients_gender(sex: str) -> None:
    (patient,) = of_type(one({**THIN, "summary": {"patient": {"id": "p", "sex": sex}}}), "Patient")
    assert patient["gender"] == sex


@pytest.mark.parametrize("sent", [{"choice_id": "unknown"}, {}])
def test_a_skipped_symptom_was_asked_and_is_unknown(sent: dict[str, str]) -> None:
    summary = {"patient": {"id": "p"}, "skipped_symptoms": [{"id": "s_98", "name": "Fever", **sent}]}
    (observation,) = of_type(one({**THIN, "summary": summary}), "Observation")
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "asked-unknown"
    assert not {name for name in observation if name.startswith("value")}


@pytest.mark.parametrize(("unit", "code"), [("minute", "min"), ("hour", "h"), ("day", "d"), ("week", "wk")])
def test_published_units_of_a_duration_are_coded(unit: str, code: str) -> None:
    symptom = {"id": "s_21", "choice_id": "present", "duration": {"unit": unit, "value": 3}}
    (observation,) = of_type(
        one({**THIN, "summary": {"patient": {"id": "p"}, "present_symptoms": [symptom]}}), "Observation"
    )
    assert [component["valueQuantity"] for component in observation["component"]] == [
        {"value": 3, "unit": unit, "system": "http://unitsofmeasure.org", "code": code}
    ]


def test_with_enrichment_on_a_thin_event_only_waits() -> None:
    result = one(THIN, enrichment=True)
    assert result.outputs == ()
    assert {flag.code for flag in result.flags} == {"awaiting-enrichment"}
    assert not result.state_updates


def test_the_enriched_event_goes_with_its_patient() -> None:
    case = golden("enriched-published")
    assert raw_key(case.envelope(THIN)) == f"acme|survey/{SURVEY}"
    assert raw_key(case.envelopes()[0]) == "acme|user-unique-id"


def test_without_a_patient_nothing_is_said_of_anybody() -> None:
    result = golden("enriched-no-patient-id").run()[0]
    assert types(result) == ["Organization", "Device", "QuestionnaireResponse", "Provenance"]
    assert "patient-missing" in {flag.code for flag in result.flags}


def test_the_engine_is_an_author_and_labels_what_it_asserts() -> None:
    result = golden("enriched-published").run()[0]
    labelled = {
        output.resource["resourceType"]
        for output in result.outputs
        if b"DEVAST" in output.value and b"ai-asserted" in output.value
    }
    assert labelled == {"RiskAssessment", "Observation"}
    (provenance,) = of_type(result, "Provenance")
    authors = [agent["who"]["reference"] for agent in provenance["agent"] if "author" in json.dumps(agent["type"])]
    engines = [f"Device/{item['id']}" for item in of_type(result, "Device") if "version" not in item]
    assert authors == engines
    assert len(engines) == 1
