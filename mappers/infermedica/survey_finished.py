"""Infermedica ``survey_finished`` → QuestionnaireResponse (mapping.md §10, stage A: the event alone)."""

from mappers.context import Context, last_writer
from mappers.contract import Flag, Flags, Made, Mapped, Refused
from mappers.infermedica.payload import SurveyFinished


def survey_finished(event: SurveyFinished, context: Context) -> Mapped:
    """A finished survey of which nothing but its id is known yet."""
    survey_id = (event.content and event.content.survey_id) or event.survey_id
    if survey_id is None:
        return Mapped(refused=(Refused("QuestionnaireResponse", Flag("resource-refused", ("/content/survey_id",))),))
    return Mapped(made=(questionnaire_response(survey_id, context),))


def questionnaire_response(survey_id: str, context: Context) -> Made:
    """No subject, time or items: the event carries none."""
    resource = context.resource(
        "QuestionnaireResponse",
        "survey",
        (survey_id,),
        identifier=context.identifier("survey", survey_id),
        status="completed",
    )
    return last_writer(resource, Flags(Flag("awaiting-enrichment")))
