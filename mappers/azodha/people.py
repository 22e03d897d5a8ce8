"""Azodha's patient, and the healthcare providers of an event (mapping.md §11.1)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from fhirline.mappers.azodha.payload import Contact, PatientFields, Provider, Providers
from fhirline.mappers.azodha.reader import Reader, text_at
from fhirline.mappers.context import Item
from fhirline.mappers.fhir.elements import element, listed
from fhirline.mappers.people import Field, practitioner
from fhirline.mappers.people import patient as folded_patient
from fhirline.mappers.results import Element, Flag, Fold, NewResource, Refused

PARAGRAPH = "§11.1"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def patient(reader: Reader) -> Fold | None:
    """The Patient with the demographics that the event sends; None where it names nobody."""
    if not reader.patient_id:
        return None
    context = reader.context
    places = reader.places("patient", "appointment", "appointment/patient")
    own = [place for place in places if not _of_another(reader, place)]
    if len(own) < len(places):
        reader.remark("patient-conflict", *(place for place in places if place not in own))
    found = reader.find(PatientFields, own)
    sent = found.model
    fields: dict[str, Field] = {}
    used: list[str] = []

    def field_of(name: str, elements: Element | None, *names: str, flags: Sequence[str] = ()) -> None:
        if elements:
            fields[name] = Field(elements, (*reader.unconfirmed, *flags))
            used.extend(names)

    if sent.firstName or sent.lastName:
        human = element(family=sent.lastName, given=listed(sent.firstName))
        field_of("name", {"name": [human]}, "firstName", "lastName")
    elif sent.patientName:
        field_of("name.text", {"name": [{"text": sent.patientName}]}, "patientName")
    if sent.email:
        field_of("telecom.email", {"telecom": [{"system": "email", "value": sent.email}]}, "email")
    if phone := sent.patientMobileNumber or sent.mobileNumber:
        source = "patientMobileNumber" if sent.patientMobileNumber else "mobileNumber"
        field_of("telecom.phone", {"telecom": [{"system": "phone", "value": phone, "use": "mobile"}]}, source)
    if sent.gender:
        row = reader.row("azodha-gender", sent.gender, found.at["gender"])
        unread = {"_gender": {"extension": [context.source_value(found.at["gender"], sent.gender)]}}
        field_of(
            "gender",
            {"gender": row.means["gender"]} if row else unread,
            "gender",
            flags=() if row else ("unmapped-code",),
        )
    if sent.birthDate and _is_date(sent.birthDate):
        field_of("birthDate", {"birthDate": sent.birthDate}, "birthDate")
    if used:
        reader.mapped(found, PARAGRAPH, *used)
    reader.claim(f"mapped {PARAGRAPH}", reader.patient_id_at)
    return folded_patient(context, "patient", reader.patient_id, fields, reader.unconfirmed)


def patient_missing(*resource_types: str) -> list[Refused]:
    """What cannot be made without a patient (mapping.md §1, rule 10)."""
    return [Refused(each, Flag("patient-missing")) for each in resource_types]


def _of_another(reader: Reader, place: str) -> bool:
    """Whether an object names another patient than the event: what it says is nobody else's (mapping.md §1, rule 7)."""
    names = ("patientId", "id") if place.endswith("/patient") else ("patientId",)
    named = (text_at(reader.context.envelope.body, f"{place}/{name}") for name in names)
    return any(sent is not None and sent != reader.patient_id for sent in named)


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text)) and bool(date.fromisoformat(text))
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Professional:
    """A provider as others refer to it.

    ``made``: the Practitioner, where a name and a key are sent; its fields are claimed. Otherwise ``claims`` are the
    fields that stand in ``reference``, for the mapping to claim that uses it.
    """

    reference: Element
    role: str | None
    role_at: str
    made: NewResource | None = None
    claims: tuple[str, ...] = field(default=())


def professionals(reader: Reader) -> list[Professional]:
    """Everyone in participants[], providers[] and assignedServiceProviders[]; whoever is named twice is one."""
    found = reader.find(Providers, reader.places("appointment", "assessment", "program", "healthProgram"))
    made: list[Professional] = []
    known: dict[str, Item[Provider]] = {}
    for name in Providers.model_fields:
        for item in reader.context.items(found.at.get(name, ""), getattr(found.model, name)):
            key = item.model.id or (item.model.email and item.model.email.lower())
            if key and (first := known.get(key)):
                if item.raw == first.raw:
                    reader.claim("ignored §3.6", item.pointer)
                    reader.remark("duplicate-collapsed", first.pointer, item.pointer)
                continue
            if professional := _professional(reader, item, key):
                made.append(professional)
                known.update({key: item} if key else {})
    return made


def _professional(reader: Reader, item: Item[Provider], key: str | None) -> Professional | None:
    sent, context = item.model, reader.context
    if sent.firstName or sent.lastName:
        name = element(family=sent.lastName, given=listed(sent.firstName))
        named = [each for each in ("firstName", "lastName") if getattr(sent, each)]
    else:
        name = element(text=sent.name)
        named = ["name"]
    identity = "id" if sent.id else "email"
    reference: Element
    role_at = f"{item.pointer}/role"
    if key and name:
        telecom, contacts = _telecom(sent)
        reader.claim(f"mapped {PARAGRAPH}", *(f"{item.pointer}/{each}" for each in (identity, *named, *contacts)))
        resource = practitioner(context, key, name, telecom, flags=reader.flags())
        reference = {"reference": context.reference("Practitioner", "professional", key)}
        return Professional(reference, sent.role, role_at, resource)
    if key:
        reference = {"type": "Practitioner", "identifier": context.identifier("professional", key)}
        return Professional(reference, sent.role, role_at, claims=(f"{item.pointer}/{identity}",))
    if name:
        display = sent.name if named == ["name"] else " ".join(filter(None, (sent.firstName, sent.lastName)))
        reference = {"type": "Practitioner", "display": display}
        return Professional(reference, sent.role, role_at, claims=tuple(f"{item.pointer}/{each}" for each in named))
    return None


def _telecom(sent: Provider) -> tuple[list[Element], list[str]]:
    """Contact points, each once, and the fields that they were taken from."""
    contact = sent.contact if isinstance(sent.contact, Contact) else Contact()
    said = [
        ("email", "email", sent.email),
        ("phone", "mobileNumber", sent.mobileNumber),
        ("phone", "phone", sent.phone),
        ("email", "contact/email", contact.email),
        ("phone", "contact/mobileNumber", contact.mobileNumber),
        ("phone", "contact/phone", contact.phone),
    ]
    if isinstance(sent.contact, str):
        said.append(("email" if "@" in sent.contact else "phone", "contact", sent.contact))
    telecom: list[Element] = []
    names = []
    for system, name, value in said:
        if value and (point := {"system": system, "value": value}) not in telecom:
            telecom.append(point)
            names.append(name)
    return telecom, names
