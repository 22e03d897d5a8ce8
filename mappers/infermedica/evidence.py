"""Symptoms and risk factors of a survey → Observations (mapping.md §10)."""

from collections.abc import Iterator

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item, last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept, coding, decimal, element, listed, reference
from fhirline.mappers.infermedica.concept import concept
from fhirline.mappers.infermedica.declarations import OBSERVABLE
from fhirline.mappers.infermedica.payload import Evidence, Summary
from fhirline.mappers.infermedica.survey import MAPPED, Survey, read_fields
from fhirline.mappers.payload import absent
from fhirline.mappers.pipeline.common_resources import OBSERVATION_VALUE
from fhirline.mappers.results import Element, NewResource

OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
PATIENT_REPORTED = coding(OBSERVATION_VALUE, "PATRPT", "patient reported")
DURATION_UNIT = "infermedica-duration-unit"
LISTS = {
    "present_symptoms": "present",
    "absent_symptoms": "absent",
    "skipped_symptoms": "unknown",
    "risk_factors": None,
}
"""List → the choice that it implies for an item without a ``choice_id``."""
ANSWERS: dict[str, Element] = {
    "present": {"valueBoolean": True},
    "absent": {"valueBoolean": False},
    "unknown": {"dataAbsentReason": {"coding": [coding(ABSENT_REASON, "asked-unknown", "Asked But Unknown")]}},
}
"""Choice → elements of the Observation. Any other choice is a ``valueString``."""


def observations(summary: Summary, summary_at: str, survey: Survey, build: MappingBuilder) -> Iterator[NewResource]:
    """Make an Observation per concept; where the lists disagree on one, an Observation per answer (mapping.md §3.6).

    The implied choice is part of what is compared.
    """
    items = [
        Item(item.pointer, item.model, {"list": None if item.model.choice_id else name, "item": item.raw})
        for name in LISTS
        for item in survey.context.items(f"{summary_at}/{name}", getattr(summary, name))
        if item.model.id
    ]
    for evidence in distinct(items, lambda sent: (survey.id, sent.id)):
        choice = evidence.model.choice_id or LISTS[evidence.item.raw["list"]]
        if choice:
            build.claim(MAPPED, *read_fields(evidence.pointer, evidence.model, "id", "name", "choice_id"))
            yield _observation(evidence, ANSWERS.get(choice, {"valueString": choice}), survey, build)


def _observation(evidence: Distinct[Evidence], answer: Element, survey: Survey, build: MappingBuilder) -> NewResource:
    context = survey.context
    duration = _duration(evidence, context, build)
    resource = context.resource(
        "Observation",
        "evidence",
        evidence.key,
        status="final",
        category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
        code=concept(evidence.model.id, evidence.model.name, context),
        subject=reference(survey.subject),
        **answer,
        derivedFrom=listed(reference(survey.response)),
        component=listed(duration),
    )
    return last_writer(resource, evidence.flags, security=(PATIENT_REPORTED,))


def _duration(evidence: Distinct[Evidence], context: Context, build: MappingBuilder) -> Element | None:
    """Make the component of a symptom's duration; None where none is sent, or where value or unit is missing.

    The answers of the QuestionnaireResponse contain it in any case.
    """
    sent, pointer = evidence.model.duration, f"{evidence.pointer}/duration"
    value = decimal(sent.value) if sent else None
    if sent is None or value is None:
        if not absent(context.raw(pointer)):
            evidence.flags.add("value-unreadable", pointer)
        return None
    if sent.unit is None:
        evidence.flags.add("duration-unit-unknown", pointer)
        return None
    build.claim(MAPPED, *read_fields(pointer, sent, "value", "unit"))
    unit = context.look_up(DURATION_UNIT, sent.unit, f"{pointer}/unit", evidence.flags)
    return element(
        code=codeable_concept(context.coding(OBSERVABLE, "duration"), text="Duration"),
        valueQuantity=context.quantity(value, sent.unit, unit),
    )
