"""The tables of `narratives`: which elements of each resource type are shown, under which labels (mapping.md §13)."""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One line of a narrative: its label, and the path of its content.

    In a path ``.`` descends, also through lists, and ``*`` ends the name of a choice (``value*``).
    """

    label: str
    path: str


SHOWN: Mapping[str, tuple[Row, ...]] = {
    name: tuple(Row(*row) for row in rows)
    for name, rows in {
        "AllergyIntolerance": [
            ("Allergy or intolerance", "code"),
            ("Clinical status", "clinicalStatus"),
            ("Reaction", "reaction.manifestation"),
            ("Note", "note"),
        ],
        "Appointment": [
            ("Appointment", "description"),
            ("Type", "appointmentType"),
            ("Service", "serviceType"),
            ("Reason", "reasonCode"),
            ("Reason of cancellation", "cancelationReason"),
            ("Minutes", "minutesDuration"),
            ("Participant", "participant.actor"),
        ],
        "AuditEvent": [
            ("Audit event", "type"),
            ("Concerning", "entity.what"),
            ("Detail", "entity.detail.value*"),
        ],
        "CarePlan": [("Care plan", "title"), ("Activity", "activity.detail.description"), ("Note", "note")],
        "CareTeam": [("Care team", "name"), ("Member", "participant.member"), ("Role", "participant.role")],
        "Communication": [
            ("Communication", "category"),
            ("Topic", "topic"),
            ("About", "about"),
            ("Content", "payload.content*"),
        ],
        "Condition": [("Condition", "code"), ("Note", "note")],
        "Coverage": [("Coverage", "type"), ("Identifier", "identifier"), ("Payor", "payor")],
        "Device": [("Device", "deviceName.name"), ("Version", "version.value")],
        "DocumentReference": [
            ("Document", "type"),
            ("Title", "content.attachment.title"),
            ("Format", "content.attachment.contentType"),
            ("Address", "content.attachment.url"),
            ("Author", "author"),
            ("Description", "description"),
        ],
        "Encounter": [
            ("Encounter", "class"),
            ("Type", "type"),
            ("Service", "serviceType"),
            ("Participant", "participant.individual"),
            ("Earlier status", "statusHistory.status"),
        ],
        "EpisodeOfCare": [("Episode of care", "type")],
        "List": [("List", "title"), ("Empty", "emptyReason"), ("Note", "note")],
        "Medication": [
            ("Medication", "code"),
            ("Form", "form"),
            ("Ingredient", "ingredient.item*"),
            ("Product", "identifier"),
        ],
        "MedicationRequest": [
            ("Prescription", "medication*"),
            ("Dosage", "dosageInstruction.text"),
            ("Instruction", "dosageInstruction.additionalInstruction"),
            ("For the patient", "dosageInstruction.patientInstruction"),
            ("Requester", "requester"),
            ("Note", "note"),
        ],
        "MedicationStatement": [("Medication", "medication*"), ("Dosage", "dosage.text"), ("Note", "note")],
        "Observation": [
            ("Observation", "code"),
            ("Value", "value*"),
            ("No value", "dataAbsentReason"),
            ("Part", "component"),
            ("Note", "note"),
        ],
        "OperationOutcome": [("Remarks on an event", "issue.details")],
        "Organization": [("Organization", "name")],
        "Patient": [("Patient", "identifier")],
        "Practitioner": [("Practitioner", "name")],
        "Provenance": [("Provenance", "activity"), ("Source", "entity.what"), ("Agent", "agent.type")],
        "QuestionnaireResponse": [("Answers", "questionnaire")],
        "RiskAssessment": [("Risk assessment", "code"), ("Prediction", "prediction")],
        "Schedule": [("Schedule", "actor")],
        "ServiceRequest": [
            ("Request", "code"),
            ("Category", "category"),
            ("Performer", "performerType"),
            ("Requester", "requester"),
            ("Note", "note"),
        ],
        "Slot": [("Slot", "comment")],
        "Task": [("Task", "code"), ("Status in the vendor's words", "businessStatus"), ("Note", "note")],
    }.items()
}
"""Resource type → its rows. The first row is the heading."""

TIMES: Mapping[str, str] = {
    "effective": "Effective",
    "effectiveDateTime": "Effective",
    "period": "Period",
    "start": "Start",
    "end": "End",
    "authored": "Authored",
    "authoredOn": "Authored",
    "recordedDate": "Recorded",
    "created": "Created",
    "date": "Date",
    "sent": "Sent",
    "issued": "Issued",
    "occurredDateTime": "Occurred",
    "recorded": "Recorded",
}
"""Elements that hold times, of any type, and their labels."""

BASIS = {
    "event-time": "time of the event, no other is stated",
    "config": "as configured",
    "default": "by default, not stated",
}
"""Code of extension ``value-basis`` → its words."""

ABSENT = {
    "unknown": "not stated",
    "unsupported": "no such value in FHIR",
    "masked": "withheld",
    "as-text": "see the text",
}
"""Code of a data-absent-reason → its words."""
