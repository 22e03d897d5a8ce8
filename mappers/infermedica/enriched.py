"""An enriched survey → Patient, QuestionnaireResponse, Observations, RiskAssessment (mapping.md §10, stage B)."""

from fhirline.mappers import people
from fhirline.mappers.answers import answer, leaf_items
from fhirline.mappers.context import last_writer
from fhirline.mappers.fhir.elements import element, reference
from fhirline.mappers.infermedica.assessment import assessment, engine_reference
from fhirline.mappers.infermedica.evidence import observations
from fhirline.mappers.infermedica.payload import SummaryPatient, SurveyFinished
from fhirline.mappers.infermedica.survey import Survey
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.payload import clean
from fhirline.mappers.people import Field
from fhirline.mappers.results import Element, Fold, MappingResult, NewResource

GENDERS = ("male", "female")


def enriched(event: SurveyFinished, survey: Survey) -> MappingResult:
    """All that the survey found. What the model ranked stays the model's: never a Condition (mapping.md §1, rule 6)."""
    made: list[NewResource | Fold] = []
    engine = None
    if event.summarized:
        summary_at, summary = event.summarized
        if summary.patient:
            made.append(patient(summary.patient, f"{summary_at}/patient", survey))
        made.append(questionnaire_response(summary_at, survey))
        made.extend(observations(summary, summary_at, survey))
    if event.assessed:
        results = assessment(event.assessed[1], event.assessed[0], survey)
        made.extend(results)
        engine = engine_reference(survey.context) if results else None
    return MappingResult(resources=tuple(made), engine=engine, claims=survey.claims)


def patient(sent: SummaryPatient, pointer: str, survey: Survey) -> Fold:
    """The Patient; an age is no birth date and stays with the answers."""
    context = survey.context
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
        unread = {"extension": [context.source_value(f"{pointer}/sex", sent.sex)]}
        fields["gender"] = Field({"_gender": unread}, ("unmapped-code",))
    survey.mapped_fields(pointer, sent, "id", "full_name", "email", "phone", "sex")
    return people.patient(context, "patient", survey.patient_id, fields)


def questionnaire_response(summary_at: str, survey: Survey) -> NewResource:
    """Every section of the summary, leaf by leaf; without ``source``, since someone else may have answered."""
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
            if (item := _section(key, value, f"{summary_at}/{escape(key)}", survey))
        ],
    )
    return last_writer(resource)


def _section(key: str, value: object, pointer: str, survey: Survey) -> Element | None:
    """One section; None where it says nothing (qrs-1: items or an answer, never both)."""
    if key == "additional_comment" and (said := answer(value)):
        survey.mapped(pointer)
        return element(linkId=key, text=key, answer=[said])
    leaves = leaf_items(value, pointer)
    survey.mapped(*(each.pointer for each in leaves))
    if not leaves:
        return None
    name = clean(key) or "-"
    if not isinstance(value, dict | list):
        return element(linkId=name, text=name, answer=leaves[0].item["answer"])
    return element(linkId=name, text=name, item=[each.item for each in leaves])
