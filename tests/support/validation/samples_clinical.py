"""Samples for the validator. What the professional finds, documents and orders. All synthetic."""

from typing import Any

from tests.support.validation.parts import (
    BASE,
    DEVICE,
    ENCOUNTER,
    PATIENT,
    PRACTITIONER,
    TERMINOLOGY,
    UNKNOWN,
    concept,
    identifier,
    resource,
)

CLINICAL: list[dict[str, Any]] = [
    resource(
        "AllergyIntolerance",
        clinicalStatus=concept(f"{TERMINOLOGY}/allergyintolerance-clinical", "active"),
        category=["medication"],
        criticality="high",
        code={"text": "Penicillin"},
        patient=PATIENT,
        note=[{"text": "Since childhood"}],
        reaction=[{"manifestation": [{"text": "Rash"}], "severity": "mild"}],
    ),
    resource(
        "Condition",
        category=[concept(f"{TERMINOLOGY}/condition-category", "encounter-diagnosis")],
        code=concept("http://hl7.org/fhir/sid/icd-10", "B66.3", "Fascioliasis"),
        subject=PATIENT,
        encounter=ENCOUNTER,
        recordedDate="2024-05-03T10:12:30Z",
    ),
    resource(
        "MedicationStatement",
        contained=[{"resourceType": "Medication", "id": "drug", "code": {"text": "Ibuprofen"}}],
        _status=UNKNOWN,
        medicationReference={"reference": "#drug"},
        subject=PATIENT,
        dosage=[{"text": "1-0-1", "doseAndRate": [{"doseQuantity": {"value": 0.5, "unit": "tablet"}}]}],
    ),
    resource(
        "MedicationRequest",
        status="active",
        intent="order",
        medicationCodeableConcept={"text": "Paracetamol 500 mg"},
        subject=PATIENT,
        encounter=ENCOUNTER,
        authoredOn="2024-05-03",
        requester=PRACTITIONER,
        dosageInstruction=[
            {
                "text": "every 8 hours",
                "timing": {"repeat": {"frequency": 1, "period": 8, "periodUnit": "h"}},
                "route": {"text": "oral"},
            }
        ],
        dispenseRequest={"validityPeriod": {"start": "2024-05-03", "end": "2024-06-03"}},
    ),
    resource("Medication", code={"text": "Ibuprofen"}, form={"text": "tablet"}, status="active"),
    resource(
        "ServiceRequest",
        status="active",
        intent="order",
        priority="routine",
        code={"text": "Blood count"},
        subject=PATIENT,
        encounter=ENCOUNTER,
        authoredOn="2024-05-03T10:12:30+02:00",
        requester=PRACTITIONER,
    ),
    resource(
        "Observation",
        status="final",
        category=[concept(f"{TERMINOLOGY}/observation-category", "survey")],
        code=concept("http://loinc.org", "8867-4", "Heart rate"),
        subject=PATIENT,
        effectiveDateTime="2024-05-03T10:00:00Z",
        valueQuantity={"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        referenceRange=[{"low": {"value": 60}, "high": {"value": 100}}],
        component=[{"code": {"text": "answered"}, "valueBoolean": True}],
    ),
    resource(
        "CarePlan",
        status="active",
        intent="plan",
        title="Plan",
        subject=PATIENT,
        period={"start": "2024-05-03"},
        activity=[{"detail": {"status": "scheduled", "description": "Walk", "_kind": UNKNOWN}}],
        note=[{"text": "Line one\nline two"}],
    ),
    resource(
        "QuestionnaireResponse",
        identifier=identifier("survey", "s-1"),
        status="completed",
        subject=PATIENT,
        authored="2024-05-03T10:00:00Z",
        item=[
            {
                "linkId": "1",
                "text": "Headache?",
                "answer": [
                    {
                        "valueCoding": {"system": f"{BASE}/CodeSystem/answer", "code": "present"},
                        "item": [{"linkId": "1.1", "answer": [{"valueInteger": 3}]}],
                    }
                ],
            },
            {"linkId": "2", "item": [{"linkId": "2.1", "answer": [{"valueDecimal": 0.25}]}]},
        ],
    ),
    resource(
        "RiskAssessment",
        status="final",
        subject=PATIENT,
        performer=DEVICE,
        prediction=[
            {"outcome": {"text": "Migraine"}, "probabilityDecimal": 0.8125, "qualitativeRisk": {"text": "moderate"}}
        ],
    ),
    resource(
        "DocumentReference",
        status="current",
        type={"text": "Report"},
        subject=PATIENT,
        date="2024-05-03T10:12:30.345Z",
        author=[PRACTITIONER],
        content=[
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "url": "https://files.example.org/report.pdf",
                    "title": "Report",
                    "size": 1024,
                    "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
                }
            }
        ],
        context={"encounter": [ENCOUNTER], "period": {"start": "2024-05-03T10:00:00Z"}},
    ),
    resource(
        "DiagnosticReport",
        status="final",
        code={"text": "Laboratory"},
        subject=PATIENT,
        issued="2024-05-03T10:12:30.345678901Z",
        presentedForm=[{"contentType": "text/plain", "data": "aGVsbG8="}],
    ),
]
