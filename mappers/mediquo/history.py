"""MediQuo's medical history → a resource per item, and snapshot Lists (mapping.md §8.1.4 to §8.1.6, §8.1.8)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item, last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import (
    LOINC,
    annotation,
    codeable_concept,
    coding,
    data_absent,
    element,
    listed,
    reference,
)
from fhirline.mappers.identity import Part, norm, trimmed
from fhirline.mappers.json_pointer import is_list
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import HistoryItem, Medication, PatientHistory
from fhirline.mappers.results import Element, Flags, NewResource
from fhirline.mappers.unread import unread

ACTIVE = coding("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active", "Active")
PROBLEM_LIST_ITEM = coding(
    "http://terminology.hl7.org/CodeSystem/condition-category", "problem-list-item", "Problem List Item"
)
UNAVAILABLE = coding("http://terminology.hl7.org/CodeSystem/list-empty-reason", "unavailable", "Unavailable")
EMPTY = "empty in the source; whether anyone asked is not stated"
CLOSING = " \t\r\n.,;:!…"
"""White space and punctuation that may follow a denial. A question mark is not ignored: it doubts the denial."""
UNREADABLE = "the source lists nothing that could be read"


@dataclass(frozen=True, slots=True)
class Kind:
    """An array of the history: its name in the payload, and title and code of its List."""

    name: str
    title: str
    code: Element


ALLERGIES = Kind(
    "allergies",
    "Allergies in the patient's medical history",
    coding(LOINC, "48765-2", "Allergies and adverse reactions Document"),
)
DISEASES = Kind(
    "diseases", "Diseases in the patient's medical history", coding(LOINC, "11450-4", "Problem list - Reported")
)
MEDICATIONS = Kind(
    "medications",
    "Medications in the patient's medical history",
    coding(LOINC, "10160-0", "History of Medication use Narrative"),
)


def history(sent: PatientHistory, patient: PatientEvent, build: MappingBuilder) -> list[NewResource]:
    """Make the resources of allergies, diseases and medications, and the List of each array."""
    allergy_ids = {allergy.id for allergy in sent.allergies if allergy and allergy.id and not allergy.id.isdecimal()}

    def checked_condition(disease: Distinct[HistoryItem], patient: PatientEvent) -> NewResource:
        if disease.model.id in allergy_ids:  # §3.6
            disease.flags.add("suspicious-id", f"{disease.pointer}/id")
        return condition(disease, patient)

    return [
        *_kind(ALLERGIES, sent.allergies, allergy_intolerance, patient, build),
        *_kind(DISEASES, sent.diseases, checked_condition, patient, build),
        *_kind(MEDICATIONS, sent.medications, medication_statement, patient, build),
    ]


def allergy_intolerance(allergy: Distinct[HistoryItem], patient: PatientEvent) -> NewResource:
    """Make an AllergyIntolerance (mapping.md §8.1.4). ``active`` is not sent, but required by ``ait-1``, and safe."""
    default = {"extension": [patient.context.value_basis("default")]}
    resource = patient.resource(
        "AllergyIntolerance",
        "allergy",
        allergy.key,
        identifier=_identifier("allergy", allergy, patient),
        clinicalStatus={**default, **(codeable_concept(ACTIVE) or {})},
        code=codeable_concept(text=allergy.model.name),
        patient=patient.subject,
        note=listed(annotation(allergy.model.description)),
    )
    return last_writer(resource, allergy.flags)


def condition(disease: Distinct[HistoryItem], patient: PatientEvent) -> NewResource:
    """Make a Condition (mapping.md §8.1.5), without ``clinicalStatus``: a disease of the history may be resolved."""
    resource = patient.resource(
        "Condition",
        "disease",
        disease.key,
        identifier=_identifier("disease", disease, patient),
        category=[codeable_concept(PROBLEM_LIST_ITEM)],
        code=codeable_concept(text=disease.model.name),
        subject=patient.subject,
        note=listed(annotation(disease.model.description)),
    )
    return last_writer(resource, disease.flags)


def medication_statement(medication: Distinct[Medication], patient: PatientEvent) -> NewResource:
    """Make a MedicationStatement (mapping.md §8.1.6)."""
    resource = patient.resource(
        "MedicationStatement",
        "medication",
        medication.key,
        identifier=_identifier("medication", medication, patient),
        status="unknown",
        medicationCodeableConcept=_name(medication.model),
        subject=patient.subject,
        _effectiveDateTime=data_absent("unknown"),
        note=listed(annotation(medication.model.description)),
        dosage=listed(element(text=medication.model.posology)),
    )
    return last_writer(resource, medication.flags)


def _identifier(kind: str, item: Distinct[Any], patient: PatientEvent) -> list[Element] | None:
    return [patient.context.identifier(kind, item.model.id)] if item.model.id else None


def _name(item: HistoryItem) -> Element:
    return codeable_concept(text=item.name) or data_absent("unknown")


def _kind(
    kind: Kind,
    models: Sequence[Any],
    make: Callable[[Distinct[Any], PatientEvent], NewResource],
    patient: PatientEvent,
    build: MappingBuilder,
) -> Iterator[NewResource]:
    """Make the resource of each item of an array and, where it was sent as an array, its List."""
    pointer = _pointer(kind)
    sent_as_array = is_list(patient.context.raw(pointer))
    named, denials = _named_and_denials(kind, models, sent_as_array, patient, build)
    resources = [make(item, patient) for item in distinct(named, _key)]
    yield from resources
    if sent_as_array:
        yield snapshot(kind, pointer, resources, denials, patient)


def _pointer(kind: Kind) -> str:
    return f"/payload/patient/{kind.name}"


def _key(item: HistoryItem) -> tuple[Part, ...]:
    """Return the key of an item: the vendor's id or, without one, its name."""
    return (item.id,) if item.id else (None, norm(item.name or ""))


def _named_and_denials(
    kind: Kind,
    models: Sequence[HistoryItem | None],
    sent_as_array: bool,
    patient: PatientEvent,
    build: MappingBuilder,
) -> tuple[list[Item[HistoryItem]], list[Item[HistoryItem]]]:
    """Split the items into those to map, and those whose name denies them (mapping.md §8.1.4).

    An item is mapped if it has a name, or an id and a description. Without a name, the description may deny it. A
    denial is a note of the List; without a List it is omitted. Other items are flagged, and omitted.
    """
    context, pointer = patient.context, _pointer(kind)
    if unreadable := unread(pointer, models, context.raw(pointer)):
        build.flag("value-unreadable", *unreadable)
    named: list[Item[HistoryItem]] = []
    denials: list[Item[HistoryItem]] = []
    for item in context.items(pointer, models):
        if item.model.name is None and not (item.model.id and _words(item.model)):
            build.flag("item-empty", item.pointer)
        elif not _denies(item.model, kind, context):
            named.append(item)
        elif sent_as_array:
            denials.append(item)
            build.omit(f"{item.pointer}/id")
        else:
            build.flag("denial-text", item.pointer)
            build.omit(item.pointer)
    return named, denials


def _denies(item: HistoryItem, kind: Kind, context: Context) -> bool:
    """Tell whether the name of an item, or the description of one without a name, denies it.

    The whole string is in the table, closing punctuation aside. A description counts only in the list that the row
    names (``of``), if it names one: "without treatment" as the description of a disease does not deny the disease.
    """
    words = trimmed(item.name or item.description or "").replace("’", "'")
    rows = (context.terminology.row("denials", text) for text in (words, words.rstrip(CLOSING)))
    return any(row and (item.name or row.means.get("of", kind.name) == kind.name) for row in rows)


def snapshot(
    kind: Kind,
    pointer: str,
    resources: Sequence[NewResource],
    denials: Sequence[Item[HistoryItem]],
    patient: PatientEvent,
) -> NewResource:
    """Make the List of what an array contained (mapping.md §8.1.8).

    Its ``emptyReason`` is never ``nilknown``: an absent item is no negative finding.
    """
    context, flags = patient.context, Flags()
    for denial in denials:
        flags.add("denial-text", denial.pointer)
    reason = UNREADABLE if context.raw(pointer) else EMPTY
    resource = patient.resource(
        "List",
        kind.name,
        (),
        status="current",
        mode="snapshot",
        title=kind.title,
        code=codeable_concept(kind.code),
        subject=patient.subject,
        date=context.time.instant.text,
        note=listed(*(annotation(_words(denial.model)) for denial in denials)),
        entry=[{"item": reference(f"{new.resource['resourceType']}/{new.resource['id']}")} for new in resources],
        emptyReason=None if resources or denials else codeable_concept(UNAVAILABLE, text=reason),
    )
    return last_writer(resource, flags)


def _words(item: HistoryItem) -> str:
    """Join all texts of an item, a line each."""
    posology = item.posology if isinstance(item, Medication) else None
    return "\n".join(listed(item.name, item.description, posology) or [])
