"""Samples for the validator. Patient, professionals, organizations, appointments and Encounter. All synthetic."""

from typing import Any

from tests.support.validation.parts import (
    ORGANIZATION,
    PATIENT,
    PRACTITIONER,
    TERMINOLOGY,
    concept,
    identifier,
    resource,
)

ADMINISTRATIVE: list[dict[str, Any]] = [
    resource("Organization", identifier=[identifier("vendor", "mediquo")], name="MediQuo"),
    resource(
        "Device",
        deviceName=[{"name": "fhirline", "type": "model-name"}],
        version=[{"value": "map-3+maps-3"}],
        owner=ORGANIZATION,
    ),
    resource(
        "Practitioner",
        identifier=[identifier("professional", "p-1")],
        active=True,
        name=[{"text": "Dr. Ana Prueba", "family": "Prueba", "given": ["Ana"]}],
        telecom=[{"system": "email", "value": "ana@example.org", "use": "work"}],
        qualification=[{"code": {"text": "Dermatology"}}],
    ),
    resource(
        "Patient",
        identifier=[identifier("patient", "42")],
        name=[{"text": "Test Person", "family": "Person", "given": ["Test"]}],
        telecom=[{"system": "phone", "value": "+34600000000"}],
        gender="female",
        birthDate="1990-02-28",
        contact=[{"name": {"text": "Other Person"}, "telecom": [{"system": "phone", "value": "+34600000001"}]}],
        managingOrganization=ORGANIZATION,
    ),
    resource(
        "Coverage",
        status="active",
        subscriberId="S-1",
        beneficiary=PATIENT,
        payor=[ORGANIZATION],
        period={"start": "2024-01-01"},
        class_=[{"type": concept(f"{TERMINOLOGY}/coverage-class", "plan"), "value": "gold"}],
    ),
    resource("EpisodeOfCare", status="active", patient=PATIENT, managingOrganization=ORGANIZATION),
    resource(
        "CareTeam",
        status="active",
        subject=PATIENT,
        participant=[{"role": [{"text": "doctor"}], "member": PRACTITIONER, "onBehalfOf": ORGANIZATION}],
    ),
    resource(
        "Appointment",
        identifier=[identifier("appointment", "a-1")],
        status="booked",
        serviceType=[{"text": "video"}],
        start="2024-05-03T10:00:00Z",
        end="2024-05-03T10:15:00Z",
        minutesDuration=15,
        participant=[{"actor": PATIENT, "status": "accepted"}, {"actor": PRACTITIONER, "status": "accepted"}],
    ),
    resource(
        "Encounter",
        identifier=[identifier("consultation", "c-1")],
        status="finished",
        class_={"system": f"{TERMINOLOGY}/v3-ActCode", "code": "VR", "display": "virtual"},
        subject=PATIENT,
        participant=[{"individual": PRACTITIONER, "period": {"start": "2024-05-03T10:00:00Z"}}],
        period={"start": "2024-05-03T10:00:00Z", "end": "2024-05-03T10:12:30.5Z"},
        reasonCode=[{"text": "Rash"}],
        serviceProvider=ORGANIZATION,
    ),
]
