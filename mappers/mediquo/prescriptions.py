"""MediQuo: ``prescriptions`` → MedicationRequest, Medication (mapping.md §8.1.7), ``derivation`` → ServiceRequest."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item, last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept, data_absent, listed
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.medication import named_drug
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import Derivation, Prescription, RecordPayload, Substance
from fhirline.mappers.payload import absent
from fhirline.mappers.results import Element, Flags, NewResource
from fhirline.mappers.unread import unread

PRESCRIPTIONS = "/payload/prescriptions"
DERIVATION = "/payload/derivation"

WITHOUT_SUBSTANCES: Element = {**data_absent("unknown"), "text": "Prescription without listed substances"}
UNREADABLE_SUBSTANCES: Element = {**data_absent("unknown"), "text": "Prescription whose substances could not be read"}


def medication_requests(
    payload: RecordPayload,
    consultation_id: str | None,
    encounter: Element | None,
    patient: PatientEvent,
    build: MappingBuilder,
) -> Iterator[NewResource]:
    """Make a MedicationRequest per substance, tied by ``groupIdentifier`` (mapping.md §8.1.7).

    A request per substance is true of several medicines as well as of one combination: the vendor does not tell which.
    """

    def key(prescription: Prescription) -> tuple[Part, ...]:
        return (prescription.id,) if prescription.id else (None, consultation_id)

    if unreadable := unread(PRESCRIPTIONS, payload.prescriptions, patient.context.raw(PRESCRIPTIONS)):
        build.flag("value-unreadable", *unreadable)
    sent = []
    for item in patient.context.items(PRESCRIPTIONS, payload.prescriptions):
        if item.model.id or any(_substances(item, patient.context)):
            sent.append(item)
        else:
            build.flag("item-empty", item.pointer)
    for prescription in distinct(sent, key):
        yield from _requests(prescription, len(key(prescription.model)), encounter, patient)


class Substances(NamedTuple):
    """The substances of a prescription: their names with pointers, and the pointers of what could not be read."""

    named: list[tuple[str, str]]
    unreadable: list[str]


def _substances(prescription: Item[Prescription], context: Context) -> Substances:
    """Read the substances: bare names, or objects with a name."""
    pointer = f"{prescription.pointer}/active_substances"
    models: Sequence[Substance | str | None] = prescription.model.active_substances
    found = Substances([], unread(pointer, models, context.raw(pointer)))
    items: Iterator[Item[Substance | str]] = context.items(pointer, models)
    for item in items:
        if name := item.model.name if isinstance(item.model, Substance) else item.model:
            found.named.append((name, item.pointer))
        elif not absent(item.raw):
            found.unreadable.append(item.pointer)
    return found


def _requests(
    prescription: Distinct[Prescription], id_parts: int, encounter: Element | None, patient: PatientEvent
) -> Iterator[NewResource]:
    """Make the requests of one prescription. Substances equal under ``norm`` are one, in its first spelling."""
    named, unreadable = _substances(prescription.item, patient.context)
    if unreadable:
        prescription.flags.add("value-unreadable", *unreadable)
    spellings: dict[str, list[tuple[str, str]]] = {}
    for name, pointer in named:
        spellings.setdefault(norm(name), []).append((name, pointer))
    ids, conflict = prescription.key[:id_parts], prescription.key[id_parts:]
    for key, spelled in spellings.items():
        flags = Flags(*prescription.flags)
        if len(spelled) > 1:
            flags.add("duplicate-collapsed", *(pointer for _, pointer in spelled))
        if len(spellings) > 1:
            flags.add("combination-unknown", f"{prescription.pointer}/active_substances")
        # The substance as an ingredient too, "a constituent of interest": found as those of other vendors.
        drug = named_drug(patient.context, spelled[0][0], substance=spelled[0][0])
        if drug.resource:
            yield drug.resource
        yield medication_request(prescription, (*ids, key, *conflict), drug.choice, encounter, patient, flags)
    if not spellings:
        none = {"medicationCodeableConcept": UNREADABLE_SUBSTANCES if unreadable else WITHOUT_SUBSTANCES}
        yield medication_request(prescription, (*ids, None, *conflict), none, encounter, patient, prescription.flags)


def medication_request(
    prescription: Distinct[Prescription],
    key: tuple[Part, ...],
    drug: Element,
    encounter: Element | None,
    patient: PatientEvent,
    flags: Flags,
) -> NewResource:
    """Make a MedicationRequest (mapping.md §8.1.7). ``drug`` is its ``medication[x]``."""
    context, prescription_id = patient.context, prescription.model.id
    resource = patient.resource(
        "MedicationRequest",
        "prescription",
        key,
        status="active",
        intent="order",
        **drug,
        subject=patient.subject,
        encounter=encounter,
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=patient.professional,
        groupIdentifier=context.identifier("prescription", prescription_id) if prescription_id else None,
    )
    return last_writer(resource, flags)


def referral(
    derivation: Derivation | None,
    consultation_id: str | None,
    encounter: Element | None,
    patient: PatientEvent,
    build: MappingBuilder,
) -> NewResource | None:
    """Make the ServiceRequest of a derivation (mapping.md §8.3); refused if neither it nor the consultation has an id.

    None where neither id nor description is sent.
    """
    context = patient.context
    if derivation is None or (derivation.id is None and derivation.description is None):
        return None
    if derivation.id is None and consultation_id is None:
        build.refuse("ServiceRequest", "resource-refused", f"{DERIVATION}/id")
        build.omit(DERIVATION)
        return None
    patient_referral = context.snomed("3457005", "Patient referral")
    resource = patient.resource(
        "ServiceRequest",
        "derivation",
        (consultation_id, derivation.id),
        identifier=listed(derivation.id and context.identifier("derivation", derivation.id)),
        status="active",
        intent="plan",
        category=listed(codeable_concept(patient_referral)),
        code=codeable_concept(patient_referral, text=derivation.description),
        subject=patient.subject,
        encounter=encounter,
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=patient.professional,
    )
    return last_writer(resource)
