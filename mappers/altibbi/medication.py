"""Altibbi drug → MedicationRequest with its Medication contained (mapping.md §9.2.4)."""

from collections import Counter
from collections.abc import Iterator

from fhirline.config import tables
from fhirline.mappers.altibbi.children import Child, Unused
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.dosage import dosage
from fhirline.mappers.altibbi.payload import Data, FdaDrug
from fhirline.mappers.context import Context
from fhirline.mappers.duplicates import Distinct, collapsed
from fhirline.mappers.fhir.elements import codeable_concept, element, extended, listed
from fhirline.mappers.identity import norm
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.results import Element, Resource

DISPENSE = "/data/dispense"
FORM = "form"


def medication_requests(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """A request per drug. Nobody ever closes one: ``active`` reads as "was prescribed"."""
    intent = "order" if dispensed(consultation.context) else "plan"
    return [_request(drug, ordinal, intent, consultation) for drug, ordinal in _numbered(data, consultation, unused)]


def dispensed(context: Context) -> bool:
    """Whether the doctor released the prescription; the dispense object is redacted, but still there (§9.2.9)."""
    return any(
        isinstance(leaf, bool | int | float) or bool(leaf and (not isinstance(leaf, str) or leaf.strip()))
        for _, leaf in leaves_of(context.raw(DISPENSE))
    )


def _numbered(data: Data, consultation: Consultation, unused: Unused) -> Iterator[tuple[Distinct[FdaDrug], int]]:
    """Each drug with its ordinal among those of equal name and trade name."""
    context = consultation.context
    items = (
        item
        for group in context.items("/data/drug", data.drug)
        for item in context.items(f"{group.pointer}/fdaDrug", group.model.fdaDrug)
    )
    seen: Counter[tuple[str | None, str | None]] = Counter()
    for drug in collapsed(item for item in items if unused.unless(item, item.model.name, item.model.tradeName)):
        seen[_names(drug.model)] += 1
        yield drug, seen[_names(drug.model)]


def _names(drug: FdaDrug) -> tuple[str | None, str | None]:
    return (norm(drug.name) if drug.name else None, norm(drug.tradeName) if drug.tradeName else None)


def _request(drug: Distinct[FdaDrug], ordinal: int, intent: str, consultation: Consultation) -> Child:
    context, sent = consultation.context, drug.model
    display = f"{sent.name} ({sent.tradeName})" if sent.name and sent.tradeName else sent.name or sent.tradeName
    instruction = dosage(drug, context)
    resource = consultation.resource(
        "MedicationRequest",
        "drug",
        (*_names(sent), ordinal),
        contained=[_medication(drug, context)],
        extension=_unplaced(drug, context),
        status="active",
        intent=intent,
        medicationReference={"reference": "#med", "display": display},
        subject=consultation.to_patient,
        encounter=consultation.to_encounter,
        authoredOn=consultation.time,
        _authoredOn=consultation.time_basis,
        groupIdentifier=context.identifier("consultation", consultation.id),
        dosageInstruction=listed(instruction),
    )
    told = ": ".join(each for each in (display, (instruction or {}).get("text")) if each)
    return Child(resource, drug.flags, (" ".join((told, *_warnings(drug))),))


def _warnings(drug: Distinct[FdaDrug]) -> Iterator[str]:
    """Data-quality flags in plain words (mapping.md §13)."""
    for code in dict.fromkeys(flag.code for flag in drug.flags):
        if (remark := tables.flags().flags[code]).severity == "warning":
            yield f"[{remark.text}]"


def _medication(drug: Distinct[FdaDrug], context: Context) -> Resource:
    """Contained: outside the Patient compartment, and without an identity of the vendor's."""
    sent = drug.model
    row = context.terminology.row(FORM, sent.dosageForm)
    if sent.dosageForm and row is None:
        drug.flags.add("unmapped-code", f"{drug.pointer}/dosageForm", table=FORM)
    return {
        "resourceType": "Medication",
        "id": "med",
        **(
            element(
                identifier=listed(_registered(sent.registrationNumber, context)),
                code=codeable_concept(text=sent.tradeName or sent.name),
                form=codeable_concept(*context.curated(row), text=sent.dosageForm),
                ingredient=listed(_ingredient(drug, context)),
            )
            or {}
        ),
    }


def _registered(number: str | None, context: Context) -> Element | None:
    """Whose register it is, is not stated."""
    return context.identifier("registration-number", number, type={"text": "registrationNumber"}) if number else None


def _ingredient(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """No strength: its unit is not sent."""
    if drug.model.name is None:
        return None
    return {
        **(extended(_strength(drug, context)) or {}),
        "itemCodeableConcept": codeable_concept(text=drug.model.name),
    }


def _strength(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    value = drug.model.strengthValue
    return context.source_value(f"{drug.pointer}/strengthValue", value) if value else None


def _unplaced(drug: Distinct[FdaDrug], context: Context) -> list[Element] | None:
    """What has no home in the resource. The size of a pack is not the quantity ordered."""
    sent, at = drug.model, drug.pointer
    return listed(
        context.source_data(f"{at}/packageType", sent.packageType) if sent.packageType else None,
        context.source_data(f"{at}/packageSize", sent.packageSize) if sent.packageSize else None,
        context.source_value(f"{at}/duration", sent.duration) if sent.duration else None,
        _strength(drug, context) if sent.name is None else None,
    )
