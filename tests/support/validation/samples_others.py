"""Samples for the validator: audit, schedules, documents, tasks, Provenance, OperationOutcome. All synthetic."""

from typing import Any

from tests.support.validation.parts import (
    BASE,
    DEVICE,
    DIV,
    ENCOUNTER,
    ORGANIZATION,
    PATIENT,
    PRACTITIONER,
    SOURCE_DATA,
    TERMINOLOGY,
    concept,
    identifier,
    resource,
)

OTHERS: list[dict[str, Any]] = [
    resource(
        "AuditEvent",
        type={"system": f"{TERMINOLOGY}/audit-event-type", "code": "rest"},
        action="C",
        recorded="2024-05-03T10:12:30Z",
        outcome="0",
        agent=[{"who": PRACTITIONER, "requestor": True}],
        source={"observer": DEVICE},
        entity=[{"what": PATIENT, "name": "login"}],
    ),
    resource("Schedule", active=True, actor=[PRACTITIONER]),
    resource(
        "Slot",
        schedule={"reference": "Schedule/3f5d1fb6"},
        status="free",
        start="2024-05-03T10:00:00Z",
        end="2024-05-03T10:15:00Z",
    ),
    resource("List", status="current", mode="snapshot", subject=PATIENT, entry=[{"item": PRACTITIONER}]),
    resource(
        "Composition",
        extension=[SOURCE_DATA],
        text={"status": "generated", "div": DIV},
        status="final",
        type=concept("http://loinc.org", "11488-4"),
        subject=PATIENT,
        encounter=ENCOUNTER,
        date="2024-05-03T10:12:30Z",
        author=[PRACTITIONER],
        title="Consultation note",
        section=[{"title": "Plan", "text": {"status": "additional", "div": DIV}, "entry": [ENCOUNTER]}],
    ),
    resource(
        "Communication",
        status="completed",
        subject=PATIENT,
        sent="2024-05-03T10:00:00Z",
        recipient=[PRACTITIONER],
        sender=PATIENT,
        payload=[{"contentString": "Hello {} [] null"}],
    ),
    resource(
        "Task",
        status="completed",
        intent="order",
        description="Call back",
        for_=PATIENT,
        authoredOn="2024-05-03",
        lastModified="2024-05-03T10:00:00Z",
        owner=PRACTITIONER,
    ),
    resource(
        "Provenance",
        extension=[SOURCE_DATA],
        target=[ORGANIZATION, DEVICE, PATIENT, ENCOUNTER],
        occurredDateTime="2024-06-01T12:00:00Z",
        recorded="2024-06-01T12:00:00Z",
        activity=concept(f"{TERMINOLOGY}/v3-DataOperation", "UPDATE", "transform from vendor webhook"),
        agent=[
            {"type": concept(f"{TERMINOLOGY}/provenance-participant-type", "assembler"), "who": DEVICE},
            {"who": PRACTITIONER, "onBehalfOf": ORGANIZATION},
        ],
        entity=[{"role": "source", "what": {"identifier": identifier("raw-event", "7aa9"), "display": "event"}}],
    ),
    resource(
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
    resource(
        "Bundle",
        type="transaction",
        entry=[
            {"fullUrl": f"{BASE}/Patient/1", "request": {"method": "PUT", "url": "Patient/1"}},
            {"fullUrl": f"{BASE}/Encounter/1", "request": {"method": "PUT", "url": "Encounter/1"}},
        ],
    ),
]
