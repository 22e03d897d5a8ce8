"""Altibbi ICD-10 items → Condition and Observation (mapping.md §9.2.2, §9.2.3)."""

from collections.abc import Iterable

from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.items import grouped, identified
from fhirline.mappers.altibbi.payload import Coded, Data
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import LOINC, codeable_concept, coding, element, listed
from fhirline.mappers.icd10 import icd10_coding
from fhirline.mappers.identity import norm
from fhirline.mappers.results import Element

ENCOUNTER_DIAGNOSIS = coding(
    "http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", "Encounter Diagnosis"
)
SYMPTOM = coding(LOINC, "75325-1", "Symptom")


def diagnoses(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make a Condition per diagnosis (mapping.md §9.2.2)."""
    items = grouped(consultation.context, "/data/icd10", data.icd10, "diagnosis", build)
    return [_condition(diagnosis, consultation) for diagnosis in _distinct(items, build)]


def _condition(diagnosis: Distinct[Coded], consultation: Consultation) -> Child:
    """Make a Condition of the encounter. Clinical and verification status are not sent, and not assumed."""
    resource = consultation.resource(
        "Condition",
        "diagnosis",
        diagnosis.key,
        category=[codeable_concept(ENCOUNTER_DIAGNOSIS)],
        code=_concept(diagnosis, consultation.context),
        subject=consultation.subject,
        encounter=consultation.encounter,
        recordedDate=consultation.time,
        _recordedDate=consultation.time_basis,
    )
    return Child(resource, diagnosis.flags, (_line(diagnosis.model),))


def symptoms(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make an Observation per symptom (mapping.md §9.2.3)."""
    items = grouped(consultation.context, "/data/icd10", data.icd10, "symptom", build)
    return [_observation(symptom, consultation) for symptom in _distinct(items, build)]


def _observation(symptom: Distinct[Coded], consultation: Consultation) -> Child:
    """Make an Observation: R4 uses it, not Condition, for a symptom that contributes to establishing a condition."""
    resource = consultation.resource(
        "Observation",
        "symptom",
        symptom.key,
        status="final",
        code=codeable_concept(SYMPTOM),
        subject=consultation.subject,
        encounter=consultation.encounter,
        effectiveDateTime=consultation.time,
        _effectiveDateTime=consultation.time_basis,
        valueCodeableConcept=_concept(symptom, consultation.context),
    )
    return Child(resource, symptom.flags, (_line(symptom.model),))


def _concept(coded: Distinct[Coded], context: Context) -> Element | None:
    """Make the CodeableConcept of an item, coded if its code has the form of the tenant's edition of ICD-10."""
    name, code, pointer = coded.model.name, coded.model.code, f"{coded.pointer}/code"
    if code is None:
        return codeable_concept(text=name)
    if icd10 := icd10_coding(code, context.settings.icd10_system):
        return codeable_concept(icd10, text=name)
    coded.flags.add("code-invalid", pointer)
    return element(
        extension=listed(context.source_value(pointer, context.raw(pointer), "code-invalid")),
        text=name or code,
    )


def _distinct(items: Iterable[Item[Coded]], build: MappingBuilder) -> list[Distinct[Coded]]:
    """Return the items with a name or a code, each code (or name) once."""
    return distinct(
        identified(items, "name", "code", build=build), lambda coded: (coded.code or norm(coded.name or ""),)
    )


def _line(coded: Coded) -> str:
    return f"{coded.name} ({coded.code})" if coded.name and coded.code else coded.name or coded.code or ""
