"""Azodha: twelve events, whose payloads are not published (mapping.md §11)."""

from fhirline.mappers.azodha import reader
from fhirline.mappers.azodha.booking import appointment_activity, book_appointment, notification
from fhirline.mappers.azodha.declarations import CODE_SYSTEMS, IDENTIFIERS
from fhirline.mappers.azodha.inference import inference, wellbeing_score
from fhirline.mappers.azodha.program import health_program_activated
from fhirline.mappers.azodha.survey import survey_assessment
from fhirline.mappers.azodha.uploaded_file import uploaded_file_and_test
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.pipeline.placeholders import PLACEHOLDER_CLAIM
from fhirline.mappers.registry import EventMapping, VendorMapping
from fhirline.mappers.results import MappingResult
from fhirline.mappers.routing import id_at
from fhirline.mappers.times import EventTime, event_time


def health_record_counter(_: Payload, context: Context) -> MappingResult:
    """Map a count of records → nothing: it is administrative, and no observation (mapping.md §11.2, row 7)."""
    build = MappingBuilder()
    build.flag("no-clinical-content")
    named = reader.event_name(context.envelope.body)
    build.claim("ignored §11.2", *reader.PATIENT_ID, "/data/count", "/count", named[0] if named else None)
    build.claim(PLACEHOLDER_CLAIM, *reader.placeholder_patient_ids(context.envelope.body))
    return build.result()


def _event_type(body: Body, route_event: str | None) -> str | None:
    """Take the event of the route, else the event's name in the body (mapping.md §2)."""
    named = reader.event_name(body)
    return route_event or (named[1] if named else None)


def _patient_key(body: Body) -> tuple[str, ...] | None:
    """Read the first patient id, else the file's id (mapping.md §2)."""
    if patient := reader.patient_id(body):
        return (patient[1],)
    file_id = id_at(body, "/fileId")
    return ("file", file_id) if file_id else None


def _event_time(envelope: Envelope) -> EventTime:
    """Read the first of three usual fields that contains a time with a zone: none is documented (mapping.md §3.3)."""
    sent = reader.event_time(envelope)
    return sent[1] if sent else event_time(None, envelope.received_at, otherwise="no-event-time")


VENDOR = VendorMapping(
    name="azodha",
    event_type=_event_type,
    patient_key=_patient_key,
    event_time=_event_time,
    events={
        "AppointmentToCareTaskActivityLog": EventMapping(Payload, appointment_activity),
        "InferenceToObservations": EventMapping(Payload, inference),
        "InferenceToKeyFindings": EventMapping(Payload, inference),
        "AssessmentResponseToWellbeingScore": EventMapping(Payload, wellbeing_score),
        "BookAppointment": EventMapping(Payload, book_appointment),
        "InferenceToCareTasks": EventMapping(Payload, inference),
        "HealthRecordCounter": EventMapping(Payload, health_record_counter),
        "Notification": EventMapping(Payload, notification),
        "HealthProgramActivated": EventMapping(Payload, health_program_activated),
        "UploadedFileAndTest": EventMapping(Payload, uploaded_file_and_test),
        "SurveyAssessment": EventMapping(Payload, survey_assessment),
    },
    identifiers=IDENTIFIERS,
    code_systems=CODE_SYSTEMS,
    unmapped=frozenset({"OpenTele"}),
)
