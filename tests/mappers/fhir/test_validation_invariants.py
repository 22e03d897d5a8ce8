"""Every invariant is violated by a small resource, and named in what the validator says of it."""

from typing import Any

import pytest

from fhirline.mappers.fhir.validation import compiled
from fhirline.mappers.fhir.validation.compiled import whole
from fhirline.mappers.fhir.validation.invariants import INVARIANTS, OF_CONTAINED, by_key, human
from tests.support.validation.parts import BASE, DIV, ORGANIZATION, PATIENT, TERMINOLOGY
from tests.support.validation.samples import sample, samples

URL = "http://x.example/e"
UCUM = "http://unitsofmeasure.org"
RETRACTED_ALLERGY = {
    "coding": [{"system": f"{TERMINOLOGY}/allergyintolerance-verification", "code": "entered-in-error"}]
}
RETRACTED_CONDITION = {"coding": [{"system": f"{TERMINOLOGY}/condition-ver-status", "code": "entered-in-error"}]}
ACTIVE_CONDITION = {"coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "active"}]}
DRUG = {"resourceType": "Medication", "id": "drug", "code": {"text": "x"}}
ENTRY = {"fullUrl": f"{BASE}/Patient/1", "request": {"method": "PUT", "url": "Patient/1"}}
DOCUMENT: dict[str, Any] = {
    "type": "document",
    "identifier": {"system": URL, "value": "1"},
    "timestamp": "2024-05-03T10:00:00Z",
    "entry": [{"resource": sample("Composition")}],
}


def _with(resource_type: str, *without: str, **content: Any) -> dict[str, Any]:
    kept = {name: value for name, value in sample(resource_type).items() if name not in without}
    return kept | content


def _value(**value: Any) -> dict[str, Any]:
    return _with("Patient", extension=[{"url": URL, **value}])


def _repeat(**content: Any) -> dict[str, Any]:
    return _with("MedicationRequest", dosageInstruction=[{"timing": {"repeat": content}}])


def _contained(**content: Any) -> dict[str, Any]:
    return _with("MedicationStatement", contained=[DRUG | content])


VIOLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "age-1": (_value(valueAge={"value": -1, "code": "a", "system": UCUM}), "Patient.extension.0.valueAge"),
    "ait-1": (_with("AllergyIntolerance", "clinicalStatus"), "AllergyIntolerance"),
    "ait-2": (_with("AllergyIntolerance", verificationStatus=RETRACTED_ALLERGY), "AllergyIntolerance"),
    "app-1": (
        _with("Appointment", participant=[{"status": "accepted"}]),
        "Appointment.participant.0",
    ),
    "app-2": (_with("Appointment", "end", status="proposed"), "Appointment"),
    "app-3": (_with("Appointment", "start", "end"), "Appointment"),
    "app-4": (_with("Appointment", status="noshow", cancelationReason={"text": "x"}), "Appointment"),
    "att-1": (_with("DiagnosticReport", presentedForm=[{"data": "aGVsbG8="}]), "DiagnosticReport.presentedForm.0"),
    "bdl-1": (_with("Bundle", total=1), "Bundle"),
    "bdl-2": (_with("Bundle", entry=[ENTRY | {"search": {"mode": "match"}}]), "Bundle"),
    "bdl-3": (_with("Bundle", entry=[{"resource": sample("Patient")}]), "Bundle"),
    "bdl-4": (_with("Bundle", entry=[ENTRY | {"response": {"status": "200"}}]), "Bundle"),
    "bdl-5": (_with("Bundle", type="collection", entry=[{"fullUrl": ENTRY["fullUrl"]}]), "Bundle.entry.0"),
    "bdl-7": (_with("Bundle", entry=[ENTRY, ENTRY]), "Bundle"),
    "bdl-8": (_with("Bundle", entry=[ENTRY | {"fullUrl": f"{BASE}/Patient/1/_history/1"}]), "Bundle.entry.0"),
    "bdl-9": (_with("Bundle", **{**DOCUMENT, "identifier": {"system": URL}}), "Bundle"),
    "bdl-10": ({name: value for name, value in _with("Bundle", **DOCUMENT).items() if name != "timestamp"}, "Bundle"),
    "bdl-11": (_with("Bundle", **{**DOCUMENT, "entry": [{"resource": sample("Patient")}]}), "Bundle"),
    "bdl-12": (_with("Bundle", type="message", entry=[{"resource": sample("Patient")}]), "Bundle"),
    "cmp-1": (_with("Composition", section=[{"title": "x"}]), "Composition.section.0"),
    "cmp-2": (
        _with("Composition", section=[{"emptyReason": {"text": "x"}, "entry": [PATIENT]}]),
        "Composition.section.0",
    ),
    "cnt-3": (_value(valueCount={"value": 1.5, "code": "1", "system": UCUM}), "Patient.extension.0.valueCount"),
    "con-1": (_with("Condition", stage=[{"type": {"text": "x"}}]), "Condition.stage.0"),
    "con-2": (_with("Condition", evidence=[{"id": "e"}]), "Condition.evidence.0"),
    "con-4": (_with("Condition", abatementString="gone", clinicalStatus=ACTIVE_CONDITION), "Condition"),
    "con-5": (
        _with("Condition", clinicalStatus=ACTIVE_CONDITION, verificationStatus=RETRACTED_CONDITION),
        "Condition",
    ),
    "cpl-3": (
        _with(
            "CarePlan",
            activity=[{"detail": {"status": "scheduled"}, "reference": {"reference": "Task/1"}}],
        ),
        "CarePlan.activity.0",
    ),
    "cpt-2": (_with("Patient", telecom=[{"value": "x"}]), "Patient.telecom.0"),
    "ctm-1": (
        _with("CareTeam", participant=[{"member": PATIENT, "onBehalfOf": ORGANIZATION}]),
        "CareTeam.participant.0",
    ),
    "dis-1": (_value(valueDistance={"value": 1}), "Patient.extension.0.valueDistance"),
    "dom-2": (_contained(contained=[{"resourceType": "Medication", "id": "n"}]), "MedicationStatement.contained.0"),
    "dom-3": (
        _with("MedicationStatement", contained=[DRUG, DRUG | {"id": "other"}]),
        "MedicationStatement",
    ),
    "dom-4": (_contained(meta={"versionId": "1"}), "MedicationStatement"),
    "dom-5": (_contained(meta={"security": [{"code": "N"}]}), "MedicationStatement"),
    "drt-1": (_value(valueDuration={"value": 1, "code": "d", "system": URL}), "Patient.extension.0.valueDuration"),
    "exp-1": (_value(valueExpression={"language": "text/cql"}), "Patient.extension.0.valueExpression"),
    "ext-1": (_with("Patient", extension=[{"url": URL}]), "Patient.extension.0"),
    "inv-1": (_with("Task", authoredOn="2024-05-04", lastModified="2024-05-03T10:00:00Z"), "Task"),
    "lst-1": (_with("List", emptyReason={"text": "x"}), "List"),
    "lst-2": (_with("List", entry=[{"item": PATIENT, "deleted": True}]), "List"),
    "lst-3": (_with("List", entry=[{"item": PATIENT, "date": "2024"}]), "List"),
    "obs-3": (_with("Observation", referenceRange=[{"age": {"low": {"value": 1}}}]), "Observation.referenceRange.0"),
    "obs-6": (_with("Observation", dataAbsentReason={"text": "x"}), "Observation"),
    "obs-7": (
        _with("Observation", component=[{"code": sample("Observation")["code"], "valueBoolean": True}]),
        "Observation",
    ),
    "org-1": (_with("Organization", "name", "identifier"), "Organization"),
    "org-2": (_with("Organization", address=[{"use": "home", "text": "x"}]), "Organization"),
    "org-3": (_with("Organization", telecom=[{"use": "home", "system": "phone", "value": "1"}]), "Organization"),
    "pat-1": (_with("Patient", contact=[{"gender": "female"}]), "Patient.contact.0"),
    "per-1": (
        _with("Encounter", period={"start": "2024-05-03T10:00:00Z", "end": "2024-05-03T11:59:59+02:00"}),
        "Encounter.period",
    ),
    "prr-1": (_with("ServiceRequest", "code", orderDetail=[{"text": "x"}]), "ServiceRequest"),
    "qrs-1": (
        _with(
            "QuestionnaireResponse",
            item=[{"linkId": "1", "answer": [{"valueInteger": 1}], "item": [{"linkId": "2"}]}],
        ),
        "QuestionnaireResponse.item.0",
    ),
    "qty-3": (_with("Observation", valueQuantity={"value": 1, "code": "mg"}), "Observation.valueQuantity"),
    "ras-1": (
        _with("RiskAssessment", prediction=[{"probabilityRange": {"low": {"value": 1}}}]),
        "RiskAssessment.prediction.0",
    ),
    "ras-2": (_with("RiskAssessment", prediction=[{"probabilityDecimal": 100.5}]), "RiskAssessment.prediction.0"),
    "rat-1": (_value(valueRatio={"numerator": {"value": 1}}), "Patient.extension.0.valueRatio"),
    "ref-1": (_with("Encounter", subject={"reference": "#nobody"}), "Encounter.subject.reference"),
    "rng-2": (_value(valueRange={"low": {"value": 2}, "high": {"value": 1}}), "Patient.extension.0.valueRange"),
    "sev-1": (_with("AuditEvent", entity=[{"name": "x", "query": "aGVsbG8="}]), "AuditEvent.entity.0"),
    "tim-1": (_repeat(duration=1), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-2": (_repeat(period=1), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-4": (_repeat(duration=-1, durationUnit="h"), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-5": (_repeat(period=-1, periodUnit="h"), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-6": (_repeat(periodMax=1), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-7": (_repeat(durationMax=1), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-8": (_repeat(countMax=1), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-9": (_repeat(offset=1, when=["C"]), "MedicationRequest.dosageInstruction.0.timing.repeat"),
    "tim-10": (
        _repeat(timeOfDay=["10:00:00"], when=["MORN"]),
        "MedicationRequest.dosageInstruction.0.timing.repeat",
    ),
    "txt-1": (
        _with("Composition", text={"status": "generated", "div": DIV.replace("<p>", "<p onclick='x'>")}),
        "Composition.text.div",
    ),
    "txt-2": (
        _with("Composition", text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"> </div>'}),
        "Composition.text.div",
    ),
}


@pytest.mark.parametrize("key", sorted(VIOLATIONS))
def test_a_violation_is_named(key: str) -> None:
    resource, path = VIOLATIONS[key]
    code = "extra_forbidden" if key == "dom-2" else key  # a contained resource has no element `contained` at all
    found = compiled(resource)
    assert [item.code for item in found] == [code]
    assert found[0].path.startswith(path)


def test_every_invariant_has_a_violation() -> None:
    assert set(by_key()) | {"ref-1", "txt-1", "txt-2"} == set(VIOLATIONS)


def test_every_invariant_states_what_r4_says() -> None:
    for rules in (*INVARIANTS.values(), OF_CONTAINED):
        for rule in rules:
            assert human(rule)
            assert "``" in (rule.__doc__ or ""), rule.__name__


@pytest.mark.parametrize("resource", samples(), ids=lambda item: item["resourceType"])
def test_samples_keep_them_all(resource: dict[str, Any]) -> None:
    assert compiled(resource) == []
    assert whole(resource) == []


@pytest.mark.parametrize(
    "resource",
    [
        _with("Condition", abatementString="gone", clinicalStatus=ACTIVE_CONDITION | {
            "coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "resolved"}]
        }),
        _with("Condition", verificationStatus=RETRACTED_CONDITION),
        _with("AllergyIntolerance", "clinicalStatus", verificationStatus=RETRACTED_ALLERGY),
        _with("Condition", "clinicalStatus"),  # con-3 is a warning
        _with("Appointment", "start", "end", status="waitlist"),
        _with("Appointment", status="cancelled", cancelationReason={"text": "x"}),
        _with("Bundle", **DOCUMENT),
        _with("Encounter", period={"start": "2024-05-03T10:00:00Z", "end": "2024-05-03"}),  # not comparable
        _with("Encounter", period={"start": "2024-05-03T10:00:00Z", "end": "2024-05-03T12:00:00+02:00"}),
        _with("Encounter", period={"start": "2016-12-31T23:59:60Z", "end": "2017-01-01T01:00:00+01:00"}),
        _with("Observation", "valueQuantity", dataAbsentReason={"text": "x"}),
        _with("Bundle", entry=[ENTRY | {"resource": sample("Patient")}]),
        _value(valueCount={"value": 3, "code": "1", "system": UCUM}),
        _value(valueRange={"low": {"value": 1}, "high": {"value": 1}}),
        _contained(code={"text": "{}"}),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_violation_passes(resource: dict[str, Any]) -> None:
    assert compiled(resource) == []
