"""Infermedica's assessment of a survey, ranked conditions and triage → RiskAssessment, Observation (mapping.md §10).

All of it is asserted by software: preliminary, labelled, and never a Condition, Flag, Task or ServiceRequest.
"""

from decimal import Decimal

from fhirline.mappers.builder import MappingBuilder
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
from fhirline.mappers.icd10 import icd10_coding
from fhirline.mappers.infermedica.concept import concept
from fhirline.mappers.infermedica.declarations import OBSERVABLE, TRIAGE
from fhirline.mappers.infermedica.evidence import ABSENT_REASON, OBSERVATION_CATEGORY
from fhirline.mappers.infermedica.payload import EvidenceAssessment, RankedCondition, SeriousEvidence, Triage
from fhirline.mappers.infermedica.survey import KEPT, MAPPED, Survey, read_fields
from fhirline.mappers.pipeline.common_resources import engine_device
from fhirline.mappers.results import Element, Flags, NewResource

ENGINE = "Infermedica"
LEVELS = frozenset(level.code for level in TRIAGE.concepts)
UNKNOWN = {"coding": [coding(ABSENT_REASON, "unknown", "Unknown")]}


def assessment(sent: EvidenceAssessment, pointer: str, survey: Survey, build: MappingBuilder) -> list[NewResource]:
    """Make the RiskAssessment and the triage Observation, with the Device of their engine; empty without either."""
    made = [
        risk_assessment(sent, pointer, survey, build),
        triage(sent.triage, f"{pointer}/triage", survey, build) if sent.triage else None,
    ]
    results = [result for result in made if result]
    return [engine_device(survey.context, ENGINE), *results] if results else []


def engine_reference(context: Context) -> str:
    """Return the reference ``Device/<id>`` of the engine."""
    return context.reference("Device", "engine", ENGINE)


def risk_assessment(
    sent: EvidenceAssessment, pointer: str, survey: Survey, build: MappingBuilder
) -> NewResource | None:
    """Make one RiskAssessment of all ranked conditions; None where none is sent."""
    context, flags = survey.context, Flags()
    items = context.items(f"{pointer}/conditions", sent.conditions)
    predictions = [prediction for item in items if (prediction := _prediction(item, context, flags, build))]
    if not predictions:
        return None
    resource = context.resource(
        "RiskAssessment",
        "differential",
        (survey.id, "differential"),
        status="preliminary",
        code=codeable_concept(text="Ranked possible conditions"),
        subject=reference(survey.subject),
        performer=reference(engine_reference(context)),
        basis=listed(reference(survey.response)),
        prediction=predictions,
    )
    return last_writer(resource, flags, ai=True)


def _prediction(item: Item[RankedCondition], context: Context, flags: Flags, build: MappingBuilder) -> Element | None:
    sent, pointer = item.model, item.pointer
    if not (sent.id or sent.name):
        flags.add("item-empty", pointer)
        return None
    build.claim(MAPPED, *read_fields(pointer, sent, "id", "name", "rating"))
    icd10, source_data = _icd10(item, context, flags, build)
    return element(
        extension=source_data,
        outcome=concept(sent.id, sent.name, context, icd10),
        probabilityDecimal=_percentage(sent.probability, f"{pointer}/probability", flags, build),
        qualitativeRisk=codeable_concept(text=sent.rating),
    )


def _icd10(
    item: Item[RankedCondition], context: Context, flags: Flags, build: MappingBuilder
) -> tuple[Element | None, list[Element]]:
    """Return the Coding of the only ICD-10 code, or the ``source-data`` of several.

    Codings of one concept claim to mean the same.
    """
    entries = context.items(f"{item.pointer}/icd10", item.model.icd10)
    codes = [(f"{entry.pointer}/code", entry.model.code) for entry in entries if entry.model.code]
    if len(codes) == 1:
        pointer, code = codes[0]
        if icd10 := icd10_coding(code, context.settings.icd10_system):
            build.claim(MAPPED, pointer)
            return icd10, []
        flags.add("code-invalid", pointer)
    build.claim(KEPT, *(pointer for pointer, _ in codes))
    return None, [context.source_data(pointer, context.raw(pointer)) for pointer, _ in codes]


def _percentage(probability: Decimal | None, pointer: str, flags: Flags, build: MappingBuilder) -> int | float | None:
    """Convert a probability to R4's per cent, at most 100 (``ras-2``)."""
    if probability is None:
        return None
    if not 0 <= probability <= 1:
        flags.add("value-unreadable", pointer)
        return None
    build.claim(MAPPED, pointer)
    percentage = probability * 100
    exact = decimal(percentage)
    return exact if exact is not None else float(percentage)


def triage(sent: Triage, pointer: str, survey: Survey, build: MappingBuilder) -> NewResource | None:
    """Make the Observation of the triage level; None where neither level, words nor serious evidence is sent."""
    context = survey.context
    items = context.items(f"{pointer}/serious", sent.serious)
    components = [component for item in items if (component := _component(item, context, build))]
    if not (sent.level or sent.description or components):
        return None
    build.claim(MAPPED, *read_fields(pointer, sent, "level", "description"))
    level = context.coding(TRIAGE, sent.level) if sent.level in LEVELS else None
    resource = context.resource(
        "Observation",
        "triage",
        (survey.id, "triage"),
        status="preliminary",
        category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
        code=codeable_concept(context.coding(OBSERVABLE, "triage-level"), text="Triage level"),
        subject=reference(survey.subject),
        valueCodeableConcept=codeable_concept(level, text=sent.level),
        dataAbsentReason=None if sent.level else UNKNOWN,
        note=listed(annotation(sent.description)),
        device=reference(engine_reference(context)),
        derivedFrom=listed(reference(survey.response)),
        component=components,
    )
    return last_writer(resource, ai=True)


def _component(item: Item[SeriousEvidence], context: Context, build: MappingBuilder) -> Element | None:
    """Make the component of serious evidence; None where it has neither id nor name."""
    sent = item.model
    code = concept(sent.id, sent.name, context)
    if code is None:
        return None
    build.claim(MAPPED, *read_fields(item.pointer, sent, "id", "name", "seriousness"))
    return element(code=code, valueString=sent.seriousness, dataAbsentReason=None if sent.seriousness else UNKNOWN)
