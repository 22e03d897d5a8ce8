"""MediQuo's ``prescriptions`` → MedicationRequest (mapping.md §8.1.7), ``derivation`` → ServiceRequest (§8.3)."""

from collections.abc import Iterator

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Item, last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept, data_absent, listed, reference
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import Derivation, FinishedPayload, Prescription
from fhirline.mappers.results import Element, Flags, NewResource

PRESCRIPTIONS = "/payload/prescriptions"
DERIVATION = "/payload/derivation"

WITHOUT_SUBSTANCES: Element = {**data_absent("unknown"), "text": "Prescription without listed substances"}


def medication_requests(
    payload: FinishedPayload, encounter: str | None, patient: PatientEvent, build: MappingBuilder
) -> Iterator[NewResource]:
    """Make a MedicationRequest per substance, tied by ``groupIdentifier`` (mapping.md §8.1.7).

    A request per substance is true of several medicines as well as of one combination: the vendor does not tell which.
    """
    consultation_id = payload.consultation.id if payload.consultation else None

    def key(prescription: Prescription) -> tuple[Part, ...]:
        return (prescription.id,) if prescription.id else (None, consultation_id)

    sent = []
    for item in patient.context.items(PRESCRIPTIONS, payload.prescriptions):
        if item.model.id or any(item.model.active_substances):
            sent.append(item)
        else:
            build.flag("item-empty", item.pointer)
    for prescription in distinct(sent, key):
        yield from _substances(prescription, len(key(prescription.model)), encounter, patient)


def _substances(
    prescription: Distinct[Prescription], id_parts: int, encounter: str | None, patient: PatientEvent
) -> Iterator[NewResource]:
    """Make the requests of one prescription. Substances equal under ``norm`` are one, in its first spelling."""
    spellings: dict[str, list[Item[str]]] = {}
    substances = f"{prescription.pointer}/active_substances"
    for substance in patient.context.items(substances, prescription.model.active_substances):
        spellings.setdefault(norm(substance.model), []).append(substance)
    ids, conflict = prescription.key[:id_parts], prescription.key[id_parts:]
    for name, spelled in spellings.items():
        flags = Flags(*prescription.flags)
        if len(spelled) > 1:
            flags.add("duplicate-collapsed", *(substance.pointer for substance in spelled))
        if len(spellings) > 1:
            flags.add("combination-unknown", substances)
        medication = codeable_concept(text=spelled[0].model)
        yield medication_request(prescription, (*ids, name, *conflict), medication, encounter, patient, flags)
    if not spellings:
        key = (*ids, None, *conflict)
        yield medication_request(prescription, key, WITHOUT_SUBSTANCES, encounter, patient, prescription.flags)


def medication_request(
    prescription: Distinct[Prescription],
    key: tuple[Part, ...],
    medication: Element | None,
    encounter: str | None,
    patient: PatientEvent,
    flags: Flags,
) -> NewResource:
    """Make a MedicationRequest (mapping.md §8.1.7)."""
    context, prescription_id = patient.context, prescription.model.id
    resource = patient.resource(
        "MedicationRequest",
        "prescription",
        key,
        status="active",
        intent="order",
        medicationCodeableConcept=medication,
        subject=patient.subject,
        encounter=reference(encounter),
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=patient.professional,
        groupIdentifier=context.identifier("prescription", prescription_id) if prescription_id else None,
    )
    return last_writer(resource, flags)


def referral(
    derivation: Derivation | None,
    consultation_id: str | None,
    encounter: str | None,
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
        encounter=reference(encounter),
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=patient.professional,
    )
    return last_writer(resource)
