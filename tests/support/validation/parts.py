"""The parts that the samples share: references, Meta, an extension, a narrative."""

from typing import Any

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


def concept(system: str, code: str, text: str | None = None) -> dict[str, Any]:
    """Make a CodeableConcept with one Coding."""
    return {"coding": [{"system": system, "code": code}], **({"text": text} if text else {})}


def identifier(kind: str, value: str) -> dict[str, Any]:
    """Make the Identifier of a vendor's own key."""
    return {"system": f"{BASE}/sid/mediquo/acme/{kind}", "value": value}


def resource(resource_type: str, **content: Any) -> dict[str, Any]:
    """Make a resource with an id and a Meta. A ``_`` behind a name is left out: ``class_``."""
    named = {name.rstrip("_"): value for name, value in content.items()}
    return {"resourceType": resource_type, "id": "eb5aa3a5-c39d-5d5d-a150-7aa7fa35d2bf", "meta": META, **named}
