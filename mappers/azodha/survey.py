"""Azodha ``SurveyAssessment`` → QuestionnaireResponse (mapping.md §11.3)."""

from collections.abc import Iterable

from fhirline.mappers.azodha.answers import items
from fhirline.mappers.azodha.event import look_up, start, time_with_zone
from fhirline.mappers.azodha.payload import Assessment, EventMetadata
from fhirline.mappers.azodha.people import add_people
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer, one_event
from fhirline.mappers.fhir.elements import data_absent, listed
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Element, MappingResult, NewResource

MAPPED = "mapped §11.3"
COMPLETED = "ASSESSMENT_COMPLETED"
RESPONSE_TIMES = ("completedAt", "submittedAt", "respondedAt")


def survey_assessment(_: Payload, context: Context) -> MappingResult:
    """Map an answered assessment → QuestionnaireResponse, Patient, Practitioners."""
    reader, build = start(context)
    add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("QuestionnaireResponse", "patient-missing")
    elif response := questionnaire_response(reader, build):
        build.add(response)
    elif not build.refused_types:
        build.refuse("QuestionnaireResponse", "resource-refused")
    return build.result()


def questionnaire_response(reader: Reader, build: MappingBuilder) -> NewResource | None:
    """Make the QuestionnaireResponse; None where nothing of an assessment is sent, and where it is refused.

    ``assessment.id`` may name the form. The id of the response or, without one, the event key keeps a second answering
    apart.
    """
    context = reader.context
    places = reader.places("assessment")
    found = reader.find(Assessment, places)
    answers_at = reader.locate("assessmentResponseObject", places)
    sent = found.model
    response_id = sent.assessmentResponseId or sent.responseId
    if not (sent.id or response_id or answers_at):
        return None
    status, no_status, made_of = _status(found, reader, build)
    if status is None and context.settings.unknown_status == "refuse":
        build.refuse("QuestionnaireResponse", "status-required", *found.leaves("status"))
        return None
    build.claim(MAPPED, *made_of)
    build.claim(MAPPED, *found.leaves("id", "assessmentResponseId" if sent.assessmentResponseId else "responseId"))
    authored, authored_basis = _authored(found, reader, build)
    resource = context.resource(
        "QuestionnaireResponse",
        "assessment",
        reader.key(sent.id, response_id or context.event_key),
        identifier=context.identifier("assessment", sent.id) if sent.id else None,
        status=status,
        _status=no_status,
        subject=reader.subject,
        authored=authored,
        _authored=authored_basis,
        item=items(answers_at, reader.locate("assessmentQuestionnaireObject", places), context, build),
    )
    return (last_writer if response_id else one_event)(resource, reader.flags())


def _status(
    found: Found[Assessment], reader: Reader, build: MappingBuilder
) -> tuple[str | None, Element | None, Iterable[str | None]]:
    """Return the status, its companion, and the pointers of what they are made of.

    Only the sub-type of the event means ``completed``; the status of the assessment can only mean ``in-progress``.
    """
    context = reader.context
    metadata = reader.find(EventMetadata, reader.places())
    if metadata.model.eventSubType == COMPLETED:
        return "completed", None, metadata.leaves("eventSubType")
    sent = found.model.status
    if row := look_up("azodha-assessment-status", sent, found.at.get("status"), reader, build):
        return row.means["status"], None, found.leaves("status")
    absent = data_absent("unsupported" if sent else "unknown")["extension"]
    source_value = context.source_value(found.at["status"], sent) if sent else None
    return None, {"extension": listed(*absent, source_value)}, found.leaves("status")


def _authored(found: Found[Assessment], reader: Reader, build: MappingBuilder) -> tuple[str | None, Element | None]:
    """Return the response's time, where one with a zone is sent, else the event time; and its companion."""
    if sent := time_with_zone(found, RESPONSE_TIMES, reader, build):
        name, authored = sent
        build.claim(MAPPED, *found.leaves(name))
        return authored.text, authored.companion
    return reader.context.time.instant.text, reader.context.basis_event_time
