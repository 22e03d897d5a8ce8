"""Infermedica ``survey_finished`` (mapping.md §10): stage A, the event alone; stage B, enriched with its results."""

from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.infermedica.enriched import enriched
from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.infermedica.survey import Survey
from fhirline.mappers.results import Flag, Flags, MappingResult, NewResource, Refused


def survey_finished(event: SurveyFinished, context: Context) -> MappingResult:
    """A finished survey. Which stage it is at, its keys tell; a thin event waits where the results will follow."""
    survey = event.survey
    is_enriched = bool(event.summarized or event.assessed)
    claims = {"/event_type": "mapped §2"}
    if not is_enriched and context.settings.enrichment:
        claims.update({survey[0]: "ignored §10"} if survey else {})
        return MappingResult(flags=(Flag("awaiting-enrichment"),), claims=claims)
    if survey is None:
        refused = Refused("QuestionnaireResponse", Flag("resource-refused", ("/content/survey_id",)))
        return MappingResult(refused=(refused,), claims=claims)
    survey_at, survey_id = survey
    claims[survey_at] = "mapped §10"
    if is_enriched and event.patient_id:
        return enriched(event, Survey(context, survey_id, event.patient_id, claims))
    flag = "patient-missing" if is_enriched else "awaiting-enrichment"
    return MappingResult(resources=(thin_response(survey_id, context, flag),), claims=claims)


def thin_response(survey_id: str, context: Context, flag: str) -> NewResource:
    """No subject, time or items: the event carries none, or none that a patient could be given."""
    resource = context.resource(
        "QuestionnaireResponse",
        "survey",
        (survey_id,),
        identifier=context.identifier("survey", survey_id),
        status="completed",
    )
    return last_writer(resource, Flags(Flag(flag)))
