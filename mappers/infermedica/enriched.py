"""Enriched survey → Patient, QuestionnaireResponse, Observations, RiskAssessment (mapping.md §10, stage B)."""

from fhirline.mappers import people
from fhirline.mappers.answers import answer, leaf_items
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import last_writer
from fhirline.mappers.fhir.elements import element, reference
from fhirline.mappers.infermedica.assessment import assessment, engine_reference
from fhirline.mappers.infermedica.evidence import observations
from fhirline.mappers.infermedica.payload import SummaryPatient, SurveyFinished
from fhirline.mappers.infermedica.survey import MAPPED, Survey, read_fields
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.payload import clean
from fhirline.mappers.people import Field
from fhirline.mappers.results import Element, Fold, MappingResult, NewResource

GENDERS = ("male", "female", "other", "unknown")
"""Words of ``sex`` that are codes of R4's AdministrativeGender."""


def enriched(event: SurveyFinished, survey: Survey, build: MappingBuilder) -> MappingResult:
    """Map the results of a survey. A condition that the model ranked is never a Condition (mapping.md §1, rule 6)."""
    if event.summarized:
        summary_at, summary = event.summarized
        if summary.patient:
            build.add(patient(summary.patient, f"{summary_at}/patient", survey, build))
        build.add(questionnaire_response(summary_at, survey, build))
        build.add(*observations(summary, summary_at, survey, build))
    engine = None
    if event.assessed:
        results = assessment(event.assessed.value, event.assessed.pointer, survey, build)
        build.add(*results)
        engine = engine_reference(survey.context) if results else None
    return build.result(engine=engine)


def patient(sent: SummaryPatient, pointer: str, survey: Survey, build: MappingBuilder) -> Fold:
    """Make the Patient. An age is no birth date: it stays with the answers."""
    fields = {}
    if sent.full_name:
        fields["name.text"] = Field({"name": [{"text": sent.full_name}]})
    if sent.email:
        fields["telecom.email"] = Field({"telecom": [{"system": "email", "value": sent.email}]})
    if sent.phone:
        fields["telecom.phone"] = Field({"telecom": [{"system": "phone", "value": sent.phone}]})
    if sent.sex in GENDERS:
        fields["gender"] = Field({"gender": sent.sex})
    elif sent.sex:
        fields["gender"] = Field({}, ("unmapped-code",))  # the word is an answer of the QuestionnaireResponse
    build.claim(MAPPED, *read_fields(pointer, sent, "id", "full_name", "email", "phone"))
    if sent.sex in GENDERS:
        build.claim(MAPPED, f"{pointer}/sex")
    return people.patient(survey.context, "patient", survey.patient_id, fields)


def questionnaire_response(summary_at: str, survey: Survey, build: MappingBuilder) -> NewResource:
    """Make the QuestionnaireResponse: an item per section of the summary, in it one per leaf.

    It has no ``source``: someone else than the patient may have answered.
    """
    context = survey.context
    resource = context.resource(
        "QuestionnaireResponse",
        "survey",
        (survey.id,),
        identifier=context.identifier("survey", survey.id),
        status="completed",
        subject=reference(survey.subject),
        item=[
            item
            for key, value in context.raw(summary_at).items()
            if (item := _section(key, value, f"{summary_at}/{escape(key)}", build))
        ],
    )
    return last_writer(resource)


def _section(key: str, value: object, pointer: str, build: MappingBuilder) -> Element | None:
    """Make the item of a section, with items or an answer, never both (``qrs-1``); None where it has no content."""
    if key == "additional_comment" and (comment := answer(value)):
        build.claim(MAPPED, pointer)
        return element(linkId=key, text=key, answer=[comment])
    leaves = leaf_items(value, pointer)
    build.claim(MAPPED, *(leaf.pointer for leaf in leaves))
    if not leaves:
        return None
    name = clean(key) or "-"
    if not isinstance(value, dict | list):
        return element(linkId=name, text=name, answer=leaves[0].item["answer"])
    return element(linkId=name, text=name, item=[leaf.item for leaf in leaves])
