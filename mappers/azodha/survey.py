"""Azodha ``SurveyAssessment`` → QuestionnaireResponse (mapping.md §11.3)."""

from fhirline.mappers.azodha.answers import items
from fhirline.mappers.azodha.payload import Assessment, EventMetadata
from fhirline.mappers.azodha.people import patient, patient_missing, professionals
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.context import Context, last_writer, one_event
from fhirline.mappers.fhir.elements import data_absent, listed, reference
from fhirline.mappers.instants import Instant
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Element, Flag, Fold, MappingResult, NewResource, Refused

PARAGRAPH = "§11.3"
COMPLETED = "ASSESSMENT_COMPLETED"
RESPONSE_TIMES = ("completedAt", "submittedAt", "respondedAt")


def survey_assessment(_: Payload, context: Context) -> MappingResult:
    """An assessment was answered → QuestionnaireResponse, Patient, Practitioners."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    made: list[NewResource | Fold] = [each.made for each in providers if each.made]
    if person is None:
        return reader.result(made, patient_missing("QuestionnaireResponse"))
    made.append(person)
    if response := questionnaire_response(reader):
        return reader.result([*made, response])
    return reader.result(made, [Refused("QuestionnaireResponse", Flag("resource-refused"))])


def questionnaire_response(reader: Reader) -> NewResource | None:
    """The answers; None where nothing of an assessment is sent.

    ``assessment.id`` may name the form: the response's own id, else the event, keeps a second answering apart.
    """
    context = reader.context
    places = reader.places("assessment")
    found = reader.find(Assessment, places)
    answers_at = reader.locate("assessmentResponseObject", places)
    sent = found.model
    response_id = sent.assessmentResponseId or sent.responseId
    if not (sent.id or response_id or answers_at):
        return None
    reader.mapped(found, PARAGRAPH, "id", "assessmentResponseId" if sent.assessmentResponseId else "responseId")
    status, no_status = _status(reader, found)
    authored, basis = _authored(reader, found)
    make = last_writer if response_id else one_event
    return make(
        context.resource(
            "QuestionnaireResponse",
            "assessment",
            reader.key(sent.id, response_id or context.event_key),
            identifier=context.identifier("assessment", sent.id) if sent.id else None,
            status=status,
            _status=no_status,
            subject=reference(reader.patient),
            authored=authored,
            _authored=basis,
            item=items(reader, answers_at, reader.locate("assessmentQuestionnaireObject", places)),
        ),
        reader.flags(),
    )


def _status(reader: Reader, found: Found[Assessment]) -> tuple[str | None, Element | None]:
    """``completed`` by the event's sub-type only; the assessment's own status can only say that it goes on."""
    context = reader.context
    metadata = reader.find(EventMetadata, reader.places())
    if metadata.model.eventSubType == COMPLETED:
        reader.mapped(metadata, PARAGRAPH, "eventSubType")
        return "completed", None
    reader.mapped(found, PARAGRAPH, "status")
    sent = found.model.status
    if row := reader.row("azodha-assessment-status", sent, found.at.get("status")):
        return row.means["status"], None
    absent = data_absent("unsupported" if sent else "unknown")["extension"]
    return None, {"extension": listed(*absent, context.source_value(found.at["status"], sent) if sent else None)}


def _authored(reader: Reader, found: Found[Assessment]) -> tuple[str, Element | None]:
    """The response's time where it has a zone, else the event's."""
    for name in RESPONSE_TIMES:
        if sent := Instant.parse(getattr(found.model, name)):
            reader.mapped(found, PARAGRAPH, name)
            return sent.text, None
    return reader.context.time.instant.text, reader.context.basis_event_time
