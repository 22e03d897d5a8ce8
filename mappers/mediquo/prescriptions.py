"""MediQuo's ``prescriptions`` → MedicationRequest (mapping.md §8.1.7), and ``derivation`` → ServiceRequest (§8.3)."""

from collections.abc import Iterator

from fhirline.mappers.context import last_writer
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import SNOMED, codeable_concept, coding, data_absent, listed, reference
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.mediquo.compartment import Compartment
from fhirline.mappers.mediquo.payload import Derivation, FinishedPayload, Prescription
from fhirline.mappers.results import Element, Flag, Flags, NewResource, Refused

PRESCRIPTIONS = "/payload/prescriptions"
DERIVATION = "/payload/derivation"

PATIENT_REFERRAL = coding(SNOMED, "3457005", "Patient referral")
WITHOUT_SUBSTANCES: Element = {**data_absent("unknown"), "text": "Prescription without listed substances"}


def medication_requests(
    payload: FinishedPayload, encounter: str | None, compartment: Compartment
) -> Iterator[NewResource]:
    """One request a substance, tied by ``groupIdentifier``: true whether they are several medicines or one."""
    consultation_id = payload.consultation.id if payload.consultation else None

    def key(prescription: Prescription) -> tuple[Part, ...]:
        return (prescription.id,) if prescription.id else (None, consultation_id)

    sent = []
    for item in compartment.context.items(PRESCRIPTIONS, payload.prescriptions):
        if item.model.id or any(item.model.active_substances):
            sent.append(item)
        else:
            compartment.flags.add("item-empty", item.pointer)
            compartment.skip(item.pointer)
    for prescription in distinct(sent, key):
        yield from _substances(prescription, len(key(prescription.model)), encounter, compartment)


def _substances(
    prescription: Distinct[Prescription], id_parts: int, encounter: str | None, compartment: Compartment
) -> Iterator[NewResource]:
    """Substances that are equal but for case and white space are one; the first spelling stands."""
    spellings: dict[str, list[tuple[int, str]]] = {}
    for position, substance in enumerate(prescription.model.active_substances):
        if substance is not None:
            spellings.setdefault(norm(substance), []).append((position, substance))
    ids, conflict = prescription.key[:id_parts], prescription.key[id_parts:]
    for name, spelled in spellings.items():
        flags = Flags(*prescription.flags)
        if len(spelled) > 1:
            places = (f"{prescription.pointer}/active_substances/{position}" for position, _ in spelled)
            flags.add("duplicate-collapsed", *places)
        if len(spellings) > 1:
            flags.add("combination-unknown", f"{prescription.pointer}/active_substances")
        yield medication_request(
            prescription,
            (*ids, name, *conflict),
            codeable_concept(text=spelled[0][1]),
            encounter,
            compartment,
            flags,
        )
    if not spellings:
        key = (*ids, None, *conflict)
        yield medication_request(prescription, key, WITHOUT_SUBSTANCES, encounter, compartment, prescription.flags)


def medication_request(
    prescription: Distinct[Prescription],
    key: tuple[Part, ...],
    medication: Element | None,
    encounter: str | None,
    compartment: Compartment,
    flags: Flags,
) -> NewResource:
    context, prescription_id = compartment.context, prescription.model.id
    resource = compartment.resource(
        "MedicationRequest",
        "prescription",
        key,
        status="active",
        intent="order",
        medicationCodeableConcept=medication,
        subject=compartment.subject,
        encounter=reference(encounter),
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=compartment.professional,
        groupIdentifier=context.identifier("prescription", prescription_id) if prescription_id else None,
    )
    return last_writer(resource, flags)


def referral(
    derivation: Derivation | None, consultation_id: str | None, encounter: str | None, compartment: Compartment
) -> list[NewResource] | Refused:
    """A derivation of the consultation. Refused where neither it nor the consultation has an id."""
    context = compartment.context
    if derivation is None or (derivation.id is None and derivation.description is None):
        return []
    if derivation.id is None and consultation_id is None:
        compartment.skip(DERIVATION)
        return Refused("ServiceRequest", Flag("resource-refused", (f"{DERIVATION}/id",)))
    coded = PATIENT_REFERRAL if context.settings.snomed else None
    resource = compartment.resource(
        "ServiceRequest",
        "derivation",
        (consultation_id, derivation.id),
        identifier=listed(derivation.id and context.identifier("derivation", derivation.id)),
        status="active",
        intent="plan",
        category=listed(codeable_concept(coded)),
        code=codeable_concept(coded, text=derivation.description),
        subject=compartment.subject,
        encounter=reference(encounter),
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        requester=compartment.professional,
    )
    return [last_writer(resource)]
