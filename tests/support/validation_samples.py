"""A small valid resource of every type the validator knows, in the shapes the mappings write. All synthetic."""

import copy
from collections.abc import Iterator
from typing import Any

import orjson

from tests.support.paths import GOLDEN

BASE = "https://fhirline.example.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
PATIENT = {"reference": "Patient/7d1ac67b-43b1-5e4b-9d7c-5a1dd1f6cf8e"}
ENCOUNTER = {"reference": "Encounter/0f0a6c2e-4f2e-5c55-8ec2-0a0a8f3a9d10"}
PRACTITIONER = {"reference": "Practitioner/3f5d1fb6-41de-5d0c-8d3e-1d4f3a6a2b11"}
ORGANIZATION = {"reference": "Organization/467111f0-272d-5d4b-89d8-3c26781dd9a8"}
DEVICE = {"reference": "Device/82b369a7-a838-5151-92cd-373726421d93"}
UNKNOWN = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
META = {
    "source": f"{BASE}/source/mediquo/acme#7aa91eaf1ee9e92c",
    "security": [
        {"system": f"{TERMINOLOGY}/v3-Confidentiality", "code": "N"},
        {"system": f"{TERMINOLOGY}/v3-ObservationValue", "code": "MAPPED", "display": "mapped"},
    ],
    "tag": [
        {"system": f"{BASE}/CodeSystem/vendor", "code": "mediquo"},
        {"system": f"{BASE}/CodeSystem/event-type", "code": "consultation_finished"},
    ],
}
SOURCE_DATA = {
    "url": f"{BASE}/StructureDefinition/source-data",
    "extension": [{"url": "path", "valueString": "/room_id"}, {"url": "value", "valueString": "r-77"}],
}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><p>Rest &amp; fluids.</p><ul><li>Paracetamol</li></ul></div>'


def _concept(system: str, code: str, text: str | None = None) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}], **({"text": text} if text else {})}


def _identifier(kind: str, value: str) -> dict[str, Any]:
    return {"system": f"{BASE}/sid/mediquo/acme/{kind}", "value": value}


def _resource(resource_type: str, **content: Any) -> dict[str, Any]:
    named = {name.rstrip("_"): value for name, value in content.items()}
    return {"resourceType": resource_type, "id": "eb5aa3a5-c39d-5d5d-a150-7aa7fa35d2bf", "meta": META, **named}


_SAMPLES: list[dict[str, Any]] = [
    _resource("Organization", identifier=[_identifier("vendor", "mediquo")], name="MediQuo"),
    _resource(
        "Device",
        deviceName=[{"name": "fhirline", "type": "model-name"}],
        version=[{"value": "map-3+maps-3"}],
        owner=ORGANIZATION,
    ),
    _resource(
        "Practitioner",
        identifier=[_identifier("professional", "p-1")],
        active=True,
        name=[{"text": "Dr. Ana Prueba", "family": "Prueba", "given": ["Ana"]}],
        telecom=[{"system": "email", "value": "ana@example.org", "use": "work"}],
        qualification=[{"code": {"text": "Dermatology"}}],
    ),
    _resource(
        "Patient",
        identifier=[_identifier("patient", "42")],
        name=[{"text": "Test Person", "family": "Person", "given": ["Test"]}],
        telecom=[{"system": "phone", "value": "+34600000000"}],
        gender="female",
        birthDate="1990-02-28",
        contact=[{"name": {"text": "Other Person"}, "telecom": [{"system": "phone", "value": "+34600000001"}]}],
        managingOrganization=ORGANIZATION,
    ),
    _resource(
        "Coverage",
        status="active",
        subscriberId="S-1",
        beneficiary=PATIENT,
        payor=[ORGANIZATION],
        period={"start": "2024-01-01"},
        class_=[{"type": _concept(f"{TERMINOLOGY}/coverage-class", "plan"), "value": "gold"}],
    ),
    _resource("EpisodeOfCare", status="active", patient=PATIENT, managingOrganization=ORGANIZATION),
    _resource(
        "CareTeam",
        status="active",
        subject=PATIENT,
        participant=[{"role": [{"text": "doctor"}], "member": PRACTITIONER, "onBehalfOf": ORGANIZATION}],
    ),
    _resource(
        "Appointment",
        identifier=[_identifier("appointment", "a-1")],
        status="booked",
        serviceType=[{"text": "video"}],
        start="2024-05-03T10:00:00Z",
        end="2024-05-03T10:15:00Z",
        minutesDuration=15,
        participant=[{"actor": PATIENT, "status": "accepted"}, {"actor": PRACTITIONER, "status": "accepted"}],
    ),
    _resource(
        "Encounter",
        identifier=[_identifier("consultation", "c-1")],
        status="finished",
        class_={"system": f"{TERMINOLOGY}/v3-ActCode", "code": "VR", "display": "virtual"},
        subject=PATIENT,
        participant=[{"individual": PRACTITIONER, "period": {"start": "2024-05-03T10:00:00Z"}}],
        period={"start": "2024-05-03T10:00:00Z", "end": "2024-05-03T10:12:30.5Z"},
        reasonCode=[{"text": "Rash"}],
        serviceProvider=ORGANIZATION,
    ),
    _resource(
        "AllergyIntolerance",
        clinicalStatus=_concept(f"{TERMINOLOGY}/allergyintolerance-clinical", "active"),
        category=["medication"],
        criticality="high",
        code={"text": "Penicillin"},
        patient=PATIENT,
        note=[{"text": "Since childhood"}],
        reaction=[{"manifestation": [{"text": "Rash"}], "severity": "mild"}],
    ),
    _resource(
        "Condition",
        category=[_concept(f"{TERMINOLOGY}/condition-category", "encounter-diagnosis")],
        code=_concept("http://hl7.org/fhir/sid/icd-10", "B66.3", "Fascioliasis"),
        subject=PATIENT,
        encounter=ENCOUNTER,
        recordedDate="2024-05-03T10:12:30Z",
    ),
    _resource(
        "MedicationStatement",
        contained=[{"resourceType": "Medication", "id": "drug", "code": {"text": "Ibuprofen"}}],
        _status=UNKNOWN,
        medicationReference={"reference": "#drug"},
        subject=PATIENT,
        dosage=[{"text": "1-0-1", "doseAndRate": [{"doseQuantity": {"value": 0.5, "unit": "tablet"}}]}],
    ),
    _resource(
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
    _resource("Medication", code={"text": "Ibuprofen"}, form={"text": "tablet"}, status="active"),
    _resource(
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
    _resource(
        "Observation",
        status="final",
        category=[_concept(f"{TERMINOLOGY}/observation-category", "survey")],
        code=_concept("http://loinc.org", "8867-4", "Heart rate"),
        subject=PATIENT,
        effectiveDateTime="2024-05-03T10:00:00Z",
        valueQuantity={"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        referenceRange=[{"low": {"value": 60}, "high": {"value": 100}}],
        component=[{"code": {"text": "answered"}, "valueBoolean": True}],
    ),
    _resource(
        "CarePlan",
        status="active",
        intent="plan",
        title="Plan",
        subject=PATIENT,
        period={"start": "2024-05-03"},
        activity=[{"detail": {"status": "scheduled", "description": "Walk", "_kind": UNKNOWN}}],
        note=[{"text": "Line one\nline two"}],
    ),
    _resource(
        "QuestionnaireResponse",
        identifier=_identifier("survey", "s-1"),
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
    _resource(
        "RiskAssessment",
        status="final",
        subject=PATIENT,
        performer=DEVICE,
        prediction=[
            {"outcome": {"text": "Migraine"}, "probabilityDecimal": 0.8125, "qualitativeRisk": {"text": "moderate"}}
        ],
    ),
    _resource(
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
    _resource(
        "DiagnosticReport",
        status="final",
        code={"text": "Laboratory"},
        subject=PATIENT,
        issued="2024-05-03T10:12:30.345678901Z",
        presentedForm=[{"contentType": "text/plain", "data": "aGVsbG8="}],
    ),
    _resource(
        "AuditEvent",
        type={"system": f"{TERMINOLOGY}/audit-event-type", "code": "rest"},
        action="C",
        recorded="2024-05-03T10:12:30Z",
        outcome="0",
        agent=[{"who": PRACTITIONER, "requestor": True}],
        source={"observer": DEVICE},
        entity=[{"what": PATIENT, "name": "login"}],
    ),
    _resource("Schedule", active=True, actor=[PRACTITIONER]),
    _resource(
        "Slot",
        schedule={"reference": "Schedule/3f5d1fb6"},
        status="free",
        start="2024-05-03T10:00:00Z",
        end="2024-05-03T10:15:00Z",
    ),
    _resource("List", status="current", mode="snapshot", subject=PATIENT, entry=[{"item": PRACTITIONER}]),
    _resource(
        "Composition",
        extension=[SOURCE_DATA],
        text={"status": "generated", "div": DIV},
        status="final",
        type=_concept("http://loinc.org", "11488-4"),
        subject=PATIENT,
        encounter=ENCOUNTER,
        date="2024-05-03T10:12:30Z",
        author=[PRACTITIONER],
        title="Consultation note",
        section=[{"title": "Plan", "text": {"status": "additional", "div": DIV}, "entry": [ENCOUNTER]}],
    ),
    _resource(
        "Communication",
        status="completed",
        subject=PATIENT,
        sent="2024-05-03T10:00:00Z",
        recipient=[PRACTITIONER],
        sender=PATIENT,
        payload=[{"contentString": "Hello {} [] null"}],
    ),
    _resource(
        "Task",
        status="completed",
        intent="order",
        description="Call back",
        for_=PATIENT,
        authoredOn="2024-05-03",
        lastModified="2024-05-03T10:00:00Z",
        owner=PRACTITIONER,
    ),
    _resource(
        "Provenance",
        extension=[SOURCE_DATA],
        target=[ORGANIZATION, DEVICE, PATIENT, ENCOUNTER],
        occurredDateTime="2024-06-01T12:00:00Z",
        recorded="2024-06-01T12:00:00Z",
        activity=_concept(f"{TERMINOLOGY}/v3-DataOperation", "UPDATE", "transform from vendor webhook"),
        agent=[
            {"type": _concept(f"{TERMINOLOGY}/provenance-participant-type", "assembler"), "who": DEVICE},
            {"who": PRACTITIONER, "onBehalfOf": ORGANIZATION},
        ],
        entity=[{"role": "source", "what": {"identifier": _identifier("raw-event", "7aa9"), "display": "event"}}],
    ),
    _resource(
        "OperationOutcome",
        issue=[
            {
                "severity": "information",
                "code": "incomplete",
                "details": {"coding": [{"system": f"{BASE}/CodeSystem/data-quality", "code": "x"}], "text": "Note."},
                "expression": ["/room_id"],
            }
        ],
    ),
    _resource(
        "Bundle",
        type="transaction",
        entry=[
            {"fullUrl": f"{BASE}/Patient/1", "request": {"method": "PUT", "url": "Patient/1"}},
            {"fullUrl": f"{BASE}/Encounter/1", "request": {"method": "PUT", "url": "Encounter/1"}},
        ],
    ),
]


def samples() -> list[dict[str, Any]]:
    """A fresh copy of each sample."""
    return copy.deepcopy(_SAMPLES)


def sample(resource_type: str) -> dict[str, Any]:
    """A fresh copy of the sample of a type."""
    return copy.deepcopy(next(item for item in _SAMPLES if item["resourceType"] == resource_type))


def goldens() -> list[dict[str, Any]]:
    """Every resource in the approved outputs, a Bundle as the pipeline validates it among them."""
    return list(_goldens())


def _goldens() -> Iterator[dict[str, Any]]:
    for path in sorted(GOLDEN.glob("*/*.out.json")):
        for event in orjson.loads(path.read_bytes()):
            yield from event["resources"]
            if event["outcome"]:
                yield event["outcome"]
            if event["resources"]:
                keys = [f"{resource['resourceType']}/{resource['id']}" for resource in event["resources"]]
                entry = [{"fullUrl": f"{BASE}/{key}", "request": {"method": "PUT", "url": key}} for key in keys]
                yield {"resourceType": "Bundle", "id": "b", "meta": META, "type": "transaction", "entry": entry}
