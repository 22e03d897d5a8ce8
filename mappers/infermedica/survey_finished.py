"""Infermedica ``survey_finished`` (mapping.md §10): stage A, the event alone; stage B, enriched with its results."""

from fhirline.mappers.builder import EVENT_TYPE_READ, MappingBuilder
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.infermedica.enriched import enriched
from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.infermedica.survey import MAPPED, Survey
from fhirline.mappers.pipeline.placeholders import PLACEHOLDER_CLAIM, placeholder_ids
from fhirline.mappers.results import Flag, Flags, MappingResult, NewResource


def survey_finished(event: SurveyFinished, context: Context) -> MappingResult:
    """Map a finished survey (mapping.md §10).

    Its keys decide the stage. With enrichment, a thin event makes nothing: its enriched event follows.
    """
    build = MappingBuilder()
    build.claim(EVENT_TYPE_READ, "/event_type")
    if placeholders := tuple(placeholder_ids(context.envelope.body, event)):
        build.claim(PLACEHOLDER_CLAIM, *placeholders)
        build.flag("placeholder-id", *placeholders)  # also where the answers, which are verbatim, have the words
    survey, is_enriched = event.survey, bool(event.summarized or event.assessed)
    if not is_enriched and context.settings.enrichment:
        build.flag("awaiting-enrichment")
        build.claim("ignored §10", survey.pointer if survey else None)
        return build.result()
    if survey is None:
        build.refuse("QuestionnaireResponse", "resource-refused", "/content/survey_id")
        return build.result()
    build.claim(MAPPED, survey.pointer)
    if is_enriched and event.patient_id:
        return enriched(event, Survey(context, survey.value, event.patient_id), build)
    build.add(thin_response(survey.value, context, "patient-missing" if is_enriched else "awaiting-enrichment"))
    return build.result()


def thin_response(survey_id: str, context: Context, flag: str) -> NewResource:
    """Make the QuestionnaireResponse of stage A, without subject, time and items: they are not sent."""
    resource = context.resource(
        "QuestionnaireResponse",
        "survey",
        (survey_id,),
        identifier=context.identifier("survey", survey_id),
        status="completed",
    )
    return last_writer(resource, Flags(Flag(flag)))
