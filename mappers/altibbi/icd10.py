"""Altibbi ICD-10 items → Condition and Observation (mapping.md §9.2.2, §9.2.3)."""

import re
from collections.abc import Iterable, Iterator

from fhirline.mappers.altibbi.children import Child, Unused
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.payload import Coded, Data
from fhirline.mappers.context import Context, Item
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import LOINC, codeable_concept, coding, element, listed
from fhirline.mappers.identity import norm
from fhirline.mappers.results import Element

ICD10 = re.compile(r"[A-Z][0-9]{2}(\.[0-9A-Z]{1,4})?", re.ASCII)
ENCOUNTER_DIAGNOSIS = coding(
    "http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", "Encounter Diagnosis"
)
SYMPTOM = coding(LOINC, "75325-1", "Symptom")


def diagnoses(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """A Condition of the encounter per diagnosis; neither clinical nor verification status is stated."""
    context = consultation.context
    items = (
        item
        for group in context.items("/data/icd10", data.icd10)
        for item in context.items(f"{group.pointer}/diagnosis", group.model.diagnosis)
    )
    return [
        Child(
            consultation.resource(
                "Condition",
                "diagnosis",
                each.key,
                category=[codeable_concept(ENCOUNTER_DIAGNOSIS)],
                code=concept(each, context),
                subject=consultation.to_patient,
                encounter=consultation.to_encounter,
                recordedDate=consultation.time,
                _recordedDate=consultation.time_basis,
            ),
            each.flags,
            (_words(each.model),),
        )
        for each in _told(items, unused)
    ]


def symptoms(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """An Observation per symptom: R4 uses it, not Condition, for what contributes to establishing a condition."""
    context = consultation.context
    items = (
        item
        for group in context.items("/data/icd10", data.icd10)
        for item in context.items(f"{group.pointer}/symptom", group.model.symptom)
    )
    return [
        Child(
            consultation.resource(
                "Observation",
                "symptom",
                each.key,
                status="final",
                code=codeable_concept(SYMPTOM),
                subject=consultation.to_patient,
                encounter=consultation.to_encounter,
                effectiveDateTime=consultation.time,
                _effectiveDateTime=consultation.time_basis,
                valueCodeableConcept=concept(each, context),
            ),
            each.flags,
            (_words(each.model),),
        )
        for each in _told(items, unused)
    ]


def concept(coded: Distinct[Coded], context: Context) -> Element | None:
    """The code if it has ICD-10's form, without display: that would have to come from licensed terminology."""
    name, code = coded.model.name, coded.model.code
    if code is None or ICD10.fullmatch(code):
        return codeable_concept(coding(context.settings.icd10_system, code) if code else None, text=name)
    coded.flags.add("code-invalid", f"{coded.pointer}/code")
    return element(
        extension=listed(context.source_value(f"{coded.pointer}/code", code, "code-invalid")),
        text=name or code,
    )


def _told(items: Iterable[Item[Coded]], unused: Unused) -> Iterator[Distinct[Coded]]:
    named = (item for item in items if unused.unless(item, item.model.name, item.model.code))
    yield from distinct(named, lambda coded: (coded.code or norm(coded.name or ""),))


def _words(coded: Coded) -> str:
    return f"{coded.name} ({coded.code})" if coded.name and coded.code else coded.name or coded.code or ""
