"""Altibbi drug → MedicationRequest and Medication (mapping.md §9.2.4)."""

import re
from collections import Counter
from collections.abc import Iterator

from fhirline.config import tables
from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.dosage import FORM, dosage
from fhirline.mappers.altibbi.items import grouped, identified
from fhirline.mappers.altibbi.payload import Data, FdaDrug
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.duplicates import Distinct, collapsed
from fhirline.mappers.fhir.elements import codeable_concept, element, listed, reference
from fhirline.mappers.identity import norm
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.medication import medication, reads_like_a_drug
from fhirline.mappers.results import Element, Resource

DISPENSE = "/data/dispense"

_REGISTRATION = re.compile(r"[^\s@]{1,40}")
"""A registration number, which may have more digits than a drug's name."""


def medication_requests(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make a MedicationRequest per drug."""
    intent = "order" if _dispensed(consultation.context) else "plan"
    return [_medication_request(drug, n, intent, consultation) for drug, n in _numbered(data, consultation, build)]


def _dispensed(context: Context) -> bool:
    """Tell whether the prescription was released: whether ``dispense``, which is redacted, has content (§9.2.9)."""
    return any(
        isinstance(leaf, bool | int | float) or bool(leaf and (not isinstance(leaf, str) or leaf.strip()))
        for _, leaf in leaves_of(context.raw(DISPENSE))
    )


def _numbered(data: Data, consultation: Consultation, build: MappingBuilder) -> Iterator[tuple[Distinct[FdaDrug], int]]:
    """Iterate over the drugs, each with its ordinal among those of equal name and trade name."""
    items = grouped(consultation.context, "/data/drug", data.drug, "fdaDrug", build)
    seen: Counter[tuple[str | None, str | None]] = Counter()
    for drug in collapsed(identified(items, "name", "tradeName", build=build)):
        seen[_names(drug.model)] += 1
        yield drug, seen[_names(drug.model)]


def _names(drug: FdaDrug) -> tuple[str | None, str | None]:
    return (norm(drug.name) if drug.name else None, norm(drug.tradeName) if drug.tradeName else None)


def _medication_request(drug: Distinct[FdaDrug], ordinal: int, intent: str, consultation: Consultation) -> Child:
    """Make a MedicationRequest. ``active`` reads as "was prescribed": the vendor never closes a prescription."""
    context, sent = consultation.context, drug.model
    display = f"{sent.name} ({sent.tradeName})" if sent.name and sent.tradeName else sent.name or sent.tradeName
    instruction = dosage(drug, context)
    content = _medication(drug, context)
    own = medication(context, **content).resource if _is_own(sent) else None
    resource = consultation.resource(
        "MedicationRequest",
        "drug",
        (*_names(sent), ordinal),
        extension=_source_data(drug, own, context),
        status="active",
        intent=intent,
        medicationReference=own and reference(f"Medication/{own['id']}", display),
        medicationCodeableConcept=None if own else codeable_concept(text=display),
        subject=consultation.subject,
        encounter=consultation.encounter,
        authoredOn=consultation.time,
        _authoredOn=consultation.time_basis,
        groupIdentifier=context.identifier("consultation", consultation.id),
        dosageInstruction=listed(instruction),
    )
    name_and_dosage = ": ".join(filter(None, (display, (instruction or {}).get("text"))))
    return Child(resource, drug.flags, (" ".join((name_and_dosage, *_warnings(drug))),), own)


def _warnings(drug: Distinct[FdaDrug]) -> Iterator[str]:
    """Yield the drug's warnings in plain words (mapping.md §13)."""
    for code in dict.fromkeys(flag.code for flag in drug.flags):
        definition = tables.flags().flags[code]
        if definition.severity == "warning":
            yield f"[{definition.text}]"


def _is_own(sent: FdaDrug) -> bool:
    """Tell whether the drug becomes a Medication, or stays with the patient, in its request (mapping.md §4.6)."""
    number = sent.registrationNumber
    return reads_like_a_drug(sent.name, sent.tradeName, sent.dosageForm) and (
        number is None or _REGISTRATION.fullmatch(number) is not None
    )


def _medication(drug: Distinct[FdaDrug], context: Context) -> Element:
    """Make the content of the Medication: what is the same whenever the drug is prescribed (mapping.md §4.6)."""
    sent = drug.model
    form = context.terminology.row(FORM, sent.dosageForm)
    if sent.dosageForm and form is None:
        drug.flags.add("unmapped-code", f"{drug.pointer}/dosageForm", table=FORM)
    content = element(
        identifier=listed(_registration_number(sent.registrationNumber, context)),
        code=codeable_concept(text=sent.tradeName or sent.name),
        form=codeable_concept(*context.curated(form), text=sent.dosageForm),
        ingredient=listed(element(itemCodeableConcept=codeable_concept(text=sent.name))),
    )
    return content or {}


def _registration_number(number: str | None, context: Context) -> Element | None:
    """Make the Identifier of a registration. The registry that assigned it is not sent."""
    return context.identifier("registration-number", number, type={"text": "registrationNumber"}) if number else None


def _source_data(drug: Distinct[FdaDrug], own: Resource | None, context: Context) -> list[Element] | None:
    """Make extensions of the values that have no element in the resource.

    The unit of the strength is not sent, so that the ingredient has none. The size of a pack is not the quantity
    ordered. The registration number is in the Medication, if there is one.
    """
    sent, pointer = drug.model, drug.pointer
    number = None if own else sent.registrationNumber
    return listed(
        context.source_data(f"{pointer}/packageType", sent.packageType) if sent.packageType else None,
        context.source_data(f"{pointer}/packageSize", sent.packageSize) if sent.packageSize else None,
        context.source_value(f"{pointer}/duration", sent.duration) if sent.duration else None,
        context.source_value(f"{pointer}/strengthValue", sent.strengthValue) if sent.strengthValue else None,
        context.source_value(f"{pointer}/registrationNumber", number) if number else None,
    )
