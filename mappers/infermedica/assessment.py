"""What Infermedica's engine makes of a survey: ranked conditions and a triage level (mapping.md §10).

All of it is asserted by software: preliminary, labelled, and never a Condition, Flag, Task or ServiceRequest.
"""

import re
from decimal import Decimal

from fhirline.mappers.context import Context, Item, last_writer
from fhirline.mappers.fhir.elements import (
    annotation,
    codeable_concept,
    coding,
    decimal,
    element,
    listed,
    reference,
)
from fhirline.mappers.infermedica.concept import concept
from fhirline.mappers.infermedica.evidence import ABSENT_REASON, OBSERVATION_CATEGORY
from fhirline.mappers.infermedica.payload import EvidenceAssessment, RankedCondition, SeriousEvidence, Triage
from fhirline.mappers.infermedica.survey import Survey
from fhirline.mappers.pipeline.common_resources import engine_device
from fhirline.mappers.results import Element, Flags, Fold, NewResource

ENGINE = "Infermedica"
LEVELS = frozenset({"emergency_ambulance", "emergency", "consultation_24", "consultation", "self_care"})
UNKNOWN = {"coding": [coding(ABSENT_REASON, "unknown", "Unknown")]}
_ICD10 = re.compile(r"[A-Z][0-9]{2}(?:\.[0-9A-Z]{1,4})?", re.ASCII)


def assessment(sent: EvidenceAssessment, pointer: str, survey: Survey) -> list[NewResource | Fold]:
    """RiskAssessment and triage Observation with their engine; empty where neither is sent."""
    results = [
        differential(sent, pointer, survey),
        triage(sent.triage, f"{pointer}/triage", survey) if sent.triage else None,
    ]
    made = [each for each in results if each]
    return [engine_device(survey.context, ENGINE), *made] if made else []


def engine_reference(context: Context) -> str:
    return context.reference("Device", "engine", ENGINE)


def differential(sent: EvidenceAssessment, pointer: str, survey: Survey) -> NewResource | None:
    """One RiskAssessment of all ranked conditions."""
    context, flags = survey.context, Flags()
    items = context.items(f"{pointer}/conditions", sent.conditions)
    predictions = [prediction for item in items if (prediction := _prediction(item, survey, flags))]
    if not predictions:
        return None
    return last_writer(
        context.resource(
            "RiskAssessment",
            "differential",
            (survey.id, "differential"),
            status="preliminary",
            code=codeable_concept(text="Ranked possible conditions"),
            subject=reference(survey.subject),
            performer=reference(engine_reference(context)),
            basis=listed(reference(survey.response)),
            prediction=predictions,
        ),
        flags,
        ai=True,
    )


def _prediction(item: Item[RankedCondition], survey: Survey, flags: Flags) -> Element | None:
    sent, pointer, context = item.model, item.pointer, survey.context
    if not (sent.id or sent.name):
        flags.add("item-empty", pointer)
        return None
    survey.mapped_fields(pointer, sent, "id", "name", "rating")
    icd10, kept = _icd10(item, survey, flags)
    return element(
        extension=kept,
        outcome=concept(sent.id, sent.name, context, icd10),
        probabilityDecimal=_percentage(sent.probability, f"{pointer}/probability", survey, flags),
        qualitativeRisk=codeable_concept(text=sent.rating),
    )


def _icd10(item: Item[RankedCondition], survey: Survey, flags: Flags) -> tuple[Element | None, list[Element]]:
    """The one ICD-10 coding; several are kept as data, since codings of one concept claim to mean the same."""
    context = survey.context
    entries = context.items(f"{item.pointer}/icd10", item.model.icd10)
    codes = [(f"{each.pointer}/code", each.model.code) for each in entries if each.model.code]
    if len(codes) == 1:
        place, code = codes[0]
        if _ICD10.fullmatch(code):
            survey.mapped(place)
            return coding(context.settings.icd10_system, code), []
        flags.add("code-invalid", place)
    survey.kept(*(place for place, _ in codes))
    return None, [context.source_data(place, code) for place, code in codes]


def _percentage(probability: Decimal | None, pointer: str, survey: Survey, flags: Flags) -> int | float | None:
    """A probability as R4 has it: per cent, at most 100 (``ras-2``)."""
    if probability is None:
        return None
    if not 0 <= probability <= 1:
        flags.add("value-unreadable", pointer)
        return None
    survey.mapped(pointer)
    percentage = probability * 100
    exact = decimal(percentage)
    return exact if exact is not None else float(percentage)


def triage(sent: Triage, pointer: str, survey: Survey) -> NewResource | None:
    """The triage level as an Observation; what to do about it is a consumer's business."""
    context = survey.context
    items = context.items(f"{pointer}/serious", sent.serious)
    components = [component for item in items if (component := _component(item, survey))]
    if not (sent.level or sent.description or components):
        return None
    survey.mapped_fields(pointer, sent, "level", "description")
    level = context.coding("infermedica-triage", sent.level) if sent.level in LEVELS else None
    return last_writer(
        context.resource(
            "Observation",
            "triage",
            (survey.id, "triage"),
            status="preliminary",
            category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
            code=codeable_concept(context.coding("infermedica-observable", "triage-level"), text="Triage level"),
            subject=reference(survey.subject),
            valueCodeableConcept=codeable_concept(level, text=sent.level),
            dataAbsentReason=None if sent.level else UNKNOWN,
            note=listed(annotation(sent.description)),
            device=reference(engine_reference(context)),
            derivedFrom=listed(reference(survey.response)),
            component=components,
        ),
        ai=True,
    )


def _component(item: Item[SeriousEvidence], survey: Survey) -> Element | None:
    sent = item.model
    code = concept(sent.id, sent.name, survey.context)
    if code is None:
        return None
    survey.mapped_fields(item.pointer, sent, "id", "name", "seriousness")
    return element(code=code, valueString=sent.seriousness, dataAbsentReason=None if sent.seriousness else UNKNOWN)
