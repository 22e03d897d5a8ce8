"""MediQuo's medical history → one resource an item, and snapshot Lists (mapping.md §8.1.4 to §8.1.6, §8.1.8)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.context import Item, last_writer
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
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.mediquo.compartment import Compartment
from fhirline.mappers.mediquo.payload import HistoryItem, Medication, PatientHistory
from fhirline.mappers.payload import absent
from fhirline.mappers.results import Element, Flags, NewResource

ACTIVE = coding("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active", "Active")
PROBLEM_LIST_ITEM = coding(
    "http://terminology.hl7.org/CodeSystem/condition-category", "problem-list-item", "Problem List Item"
)
UNAVAILABLE = coding("http://terminology.hl7.org/CodeSystem/list-empty-reason", "unavailable", "Unavailable")
EMPTY = "empty in the source; whether anyone asked is not stated"


def history(patient: PatientHistory, compartment: Compartment) -> list[NewResource]:
    """Each item, and per array the List of what it held (mapping.md §8.1.8)."""
    allergy_ids = {each.id for each in patient.allergies if each and each.id and not each.id.isdecimal()}

    def diagnosed(each: Distinct[HistoryItem], compartment: Compartment) -> NewResource:
        if each.model.id in allergy_ids:
            each.flags.add("suspicious-id", f"{each.pointer}/id")
        return condition(each, compartment)

    return [
        *_kind(ALLERGIES, patient.allergies, allergy_intolerance, compartment),
        *_kind(DISEASES, patient.diseases, diagnosed, compartment),
        *_kind(MEDICATIONS, patient.medications, medication_statement, compartment),
    ]


def allergy_intolerance(each: Distinct[HistoryItem], compartment: Compartment) -> NewResource:
    """``active`` is not said, but required (``ait-1``) and the safe side (mapping.md §8.1.4)."""
    default = {"extension": [compartment.context.value_basis("default")]}
    resource = compartment.resource(
        "AllergyIntolerance",
        "allergy",
        each.key,
        identifier=_identifier("allergy", each, compartment),
        clinicalStatus={**default, **(codeable_concept(ACTIVE) or {})},
        code=_name(each.model),
        patient=compartment.subject,
        note=listed(annotation(each.model.description)),
    )
    return last_writer(resource, each.flags)


def condition(each: Distinct[HistoryItem], compartment: Compartment) -> NewResource:
    """Without ``clinicalStatus``: history may be resolved, and ``active`` is no safe default (mapping.md §8.1.5)."""
    resource = compartment.resource(
        "Condition",
        "disease",
        each.key,
        identifier=_identifier("disease", each, compartment),
        category=[codeable_concept(PROBLEM_LIST_ITEM)],
        code=_name(each.model),
        subject=compartment.subject,
        note=listed(annotation(each.model.description)),
    )
    return last_writer(resource, each.flags)


def medication_statement(each: Distinct[Medication], compartment: Compartment) -> NewResource:
    resource = compartment.resource(
        "MedicationStatement",
        "medication",
        each.key,
        identifier=_identifier("medication", each, compartment),
        status="unknown",
        medicationCodeableConcept=_name(each.model),
        subject=compartment.subject,
        _effectiveDateTime=data_absent("unknown"),
        note=listed(annotation(each.model.description)),
        dosage=listed(element(text=each.model.posology)),
    )
    return last_writer(resource, each.flags)


@dataclass(frozen=True, slots=True)
class Kind:
    """An array of the history, and the List that says what it held."""

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


def _kind(
    kind: Kind,
    models: Sequence[Any],
    build: Callable[[Distinct[Any], Compartment], NewResource],
    compartment: Compartment,
) -> Iterator[NewResource]:
    pointer = f"/payload/patient/{kind.name}"
    sent_as_array = isinstance(compartment.context.raw(pointer), list)
    named, denials = _sorted_out(pointer, models, sent_as_array, compartment)
    made = [build(each, compartment) for each in distinct(named, _key)]
    yield from made
    if sent_as_array:
        yield snapshot(kind, pointer, made, denials, compartment)


def _sorted_out(
    pointer: str, models: Sequence[HistoryItem | None], sent_as_array: bool, compartment: Compartment
) -> tuple[list[Item[HistoryItem]], list[Item[HistoryItem]]]:
    """The items that say something, and those that deny it (mapping.md §8.1.4); others yield nothing.

    An item with an id and a description says something, also where its name is not sent.
    """
    context = compartment.context
    if unread := _unread(pointer, models, context.raw(pointer)):
        compartment.flags.add("value-unreadable", *unread)
    named: list[Item[HistoryItem]] = []
    denials: list[Item[HistoryItem]] = []
    for item in context.items(pointer, models):
        if item.model.name is None and not (item.model.id and _words(item.model)):
            compartment.flags.add("item-empty", item.pointer)
            compartment.skip(item.pointer)
        elif context.terminology.row("denials", item.model.name) is None:
            named.append(item)
        elif sent_as_array:
            denials.append(item)
            compartment.skip(f"{item.pointer}/id")
        else:
            compartment.flags.add("denial-text", item.pointer)
            compartment.skip(item.pointer)
    return named, denials


def _unread(pointer: str, models: Sequence[HistoryItem | None], raw: Any) -> list[str]:
    """Where something else than an item was sent: a name alone, say. The ledger keeps it."""
    sent = raw if isinstance(raw, list) else [raw]
    return [
        f"{pointer}/{position}" if isinstance(raw, list) else pointer
        for position, (model, item) in enumerate(zip(models, sent, strict=False))
        if model is None and not absent(item)
    ]


def _key(item: HistoryItem) -> tuple[Part, ...]:
    """The vendor's id; an item without one is known by its name."""
    return (item.id,) if item.id else (None, norm(item.name or ""))


def _name(item: HistoryItem) -> Element:
    return codeable_concept(text=item.name) or data_absent("unknown")


def _identifier(kind: str, each: Distinct[Any], compartment: Compartment) -> list[Element] | None:
    return [compartment.context.identifier(kind, each.model.id)] if each.model.id else None


def snapshot(
    kind: Kind,
    pointer: str,
    made: Sequence[NewResource],
    denials: Sequence[Item[HistoryItem]],
    compartment: Compartment,
) -> NewResource:
    """What one array held at the time of the event. Never ``nilknown``: absence of an item is no negative finding."""
    context, flags = compartment.context, Flags()
    for denial in denials:
        flags.add("denial-text", denial.pointer)
    said = "the source lists nothing that could be read" if context.raw(pointer) else EMPTY
    resource = compartment.resource(
        "List",
        kind.name,
        (),
        status="current",
        mode="snapshot",
        title=kind.title,
        code=codeable_concept(kind.code),
        subject=compartment.subject,
        date=context.time.instant.text,
        note=listed(*(annotation(_words(denial.model)) for denial in denials)),
        entry=[{"item": reference(f"{each.resource['resourceType']}/{each.resource['id']}")} for each in made],
        emptyReason=None if made or denials else codeable_concept(UNAVAILABLE, text=said),
    )
    return last_writer(resource, flags)


def _words(item: HistoryItem) -> str:
    """All that an item says, a line each."""
    posology = item.posology if isinstance(item, Medication) else None
    return "\n".join(listed(item.name, item.description, posology) or [])
