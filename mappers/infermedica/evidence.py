"""What the patient was asked and said: symptoms and risk factors → Observations (mapping.md §10)."""

from collections.abc import Iterator

from fhirline.mappers.context import Item, last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept, coding, listed, reference
from fhirline.mappers.infermedica.concept import concept
from fhirline.mappers.infermedica.payload import Evidence, Summary
from fhirline.mappers.infermedica.survey import Survey
from fhirline.mappers.pipeline.common_resources import OBSERVATION_VALUE
from fhirline.mappers.results import Element, NewResource

OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
PATIENT_REPORTED = coding(OBSERVATION_VALUE, "PATRPT", "patient reported")
LISTS = {"present_symptoms": "present", "absent_symptoms": "absent", "risk_factors": None}
"""Each list, and what its name says of an item without a ``choice_id``."""
ANSWERS: dict[str, Element] = {
    "present": {"valueBoolean": True},
    "absent": {"valueBoolean": False},
    "unknown": {"dataAbsentReason": {"coding": [coding(ABSENT_REASON, "asked-unknown", "Asked But Unknown")]}},
}


def observations(summary: Summary, summary_at: str, survey: Survey) -> Iterator[NewResource]:
    """One Observation per concept; where the lists disagree on one, all of them (mapping.md §3.6)."""
    items = [
        Item(item.pointer, item.model, {"list": None if item.model.choice_id else name, "item": item.raw})
        for name in LISTS
        for item in survey.context.items(f"{summary_at}/{name}", getattr(summary, name))
        if item.model.id
    ]
    for each in distinct(items, lambda sent: (survey.id, sent.id)):
        choice = each.model.choice_id or LISTS[each.item.raw["list"]]
        if choice:
            survey.mapped_fields(each.pointer, each.model, "id", "name", "choice_id")
            yield _observation(each, ANSWERS.get(choice, {"valueString": choice}), survey)


def _observation(each: Distinct[Evidence], answer: Element, survey: Survey) -> NewResource:
    context = survey.context
    return last_writer(
        context.resource(
            "Observation",
            "evidence",
            each.key,
            status="final",
            category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
            code=concept(each.model.id, each.model.name, context),
            subject=reference(survey.subject),
            **answer,
            derivedFrom=listed(reference(survey.response)),
        ),
        each.flags,
        security=(PATIENT_REPORTED,),
    )
