"""Azodha's patient and healthcare providers → Patient, Practitioner (mapping.md §11.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

from fhirline.mappers.azodha.event import look_up
from fhirline.mappers.azodha.payload import Contact, PatientFields, Provider, Providers
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Item
from fhirline.mappers.fhir.elements import element, listed
from fhirline.mappers.identity import is_placeholder
from fhirline.mappers.people import UNUSABLE_BIRTH_DATE, Field, practitioner
from fhirline.mappers.people import patient as folded_patient
from fhirline.mappers.results import Element, Flags, Fold
from fhirline.mappers.routing import id_at

MAPPED = "mapped §11.1"


def add_people(reader: Reader, build: MappingBuilder) -> "list[Professional]":
    """Add the Practitioners and the Patient that an event names. Returns its providers."""
    person = patient(reader, build)
    providers = professionals(reader, build)
    build.add(*(provider.practitioner for provider in providers), person)
    return providers


# -- the patient


def patient(reader: Reader, build: MappingBuilder) -> Fold | None:
    """Make the Patient with the demographics that the event sends; None where it names nobody."""
    if not reader.patient_id:
        return None
    found = reader.find(PatientFields, _own_places(reader, build))
    fields: dict[str, Field] = {}
    used: list[str] = []
    for name, sent in _demographics(found, reader, build).items():
        if sent.elements is not None:
            fields[name] = Field(sent.elements, (*reader.unconfirmed, *sent.flags))
            used.extend(sent.names)
    if used:
        build.claim(MAPPED, *found.leaves(*used))
    build.claim(MAPPED, reader.patient_id_at)
    return folded_patient(reader.context, "patient", reader.patient_id, fields, reader.unconfirmed)


def _own_places(reader: Reader, build: MappingBuilder) -> list[str]:
    """Return the objects to read of; those of another patient are flagged instead (mapping.md §1, rule 7)."""
    places = reader.places("patient", "appointment", "appointment/patient")
    others = [place for place in places if _of_another(reader, place)]
    if others:
        build.flag("patient-conflict", *others)
    return [place for place in places if place not in others]


def _of_another(reader: Reader, place: str) -> bool:
    """Tell whether an object names another patient than the event does."""
    names = ("patientId", "id") if place.endswith("/patient") else ("patientId",)
    named = (id_at(reader.context.envelope.body, f"{place}/{name}") for name in names)
    return any(sent is not None and sent != reader.patient_id for sent in named)


@dataclass(frozen=True, slots=True)
class _Demographic:
    """A field of the Patient: its elements (None where they cannot be made), the fields it is made of, its flags."""

    elements: Element | None
    names: tuple[str, ...]
    flags: tuple[str, ...] = ()


def _demographics(found: Found[PatientFields], reader: Reader, build: MappingBuilder) -> dict[str, _Demographic]:
    """Read the demographics: name of mapping.md §3.2 → field."""
    sent, fields = found.model, {}
    if sent.firstName or sent.lastName:
        name = element(family=sent.lastName, given=listed(sent.firstName, sent.middleName))
        fields["name"] = _Demographic({"name": [name]}, ("firstName", "middleName", "lastName"))
    elif sent.patientName:
        fields["name.text"] = _Demographic({"name": [{"text": sent.patientName}]}, ("patientName",))
    if sent.email:
        fields["telecom.email"] = _Demographic({"telecom": [{"system": "email", "value": sent.email}]}, ("email",))
    if phone := sent.patientMobileNumber or sent.mobileNumber:
        source = "patientMobileNumber" if sent.patientMobileNumber else "mobileNumber"
        telecom = [{"system": "phone", "value": phone, "use": "mobile"}]
        fields["telecom.phone"] = _Demographic({"telecom": telecom}, (source,))
    if sent.gender:
        fields["gender"] = _gender(sent.gender, found.at["gender"], reader, build)
    if born := _birth_date(sent.birthDate, found, reader):
        fields["birthDate" if "birthDate" in (born.elements or {}) else UNUSABLE_BIRTH_DATE] = born
    return fields


def _birth_date(sent: str | None, found: Found[PatientFields], reader: Reader) -> _Demographic | None:
    """Read the date of birth; None for a value that is no date, which the ledger keeps."""
    flags = Flags()
    born = reader.context.birth_date(sent, found.at.get("birthDate", ""), flags)
    if born is None:
        return None
    elements = element(birthDate=born.text, _birthDate=born.companion)
    return _Demographic(elements, ("birthDate",), tuple(flag.code for flag in flags))


def _gender(sent: str, pointer: str, reader: Reader, build: MappingBuilder) -> _Demographic:
    """Read the gender. A word without a row is not used: the Provenance keeps it, and the Patient has no gender."""
    if row := look_up("azodha-gender", sent, pointer, reader, build):
        return _Demographic({"gender": row.means["gender"]}, ("gender",))
    return _Demographic({}, (), ("unmapped-code",))


# -- the providers


@dataclass(frozen=True, slots=True)
class Professional:
    """A provider, and the Reference that other resources use for it.

    ``practitioner``: the resource, where a name and a key are sent; its fields are claimed. Otherwise ``fields`` are
    the pointers of what ``reference`` contains: a mapping that uses the reference claims them.
    """

    reference: Element
    role: str | None
    role_at: str
    practitioner: Fold | None = None
    fields: tuple[str, ...] = ()


def professionals(reader: Reader, build: MappingBuilder) -> list[Professional]:
    """Read participants[], providers[] and assignedServiceProviders[]. A provider who is named twice is one."""
    found = reader.find(Providers, reader.places("appointment", "assessment", "program", "healthProgram"))
    providers: list[Professional] = []
    known: dict[str, Item[Provider]] = {}
    for name in Providers.model_fields:
        for item in reader.context.items(found.at.get(name, ""), getattr(found.model, name)):
            key = item.model.id or _email_key(item.model.email)
            if key and (first := known.get(key)):
                if item.raw == first.raw:
                    build.claim("ignored §3.6", item.pointer)
                    build.flag("duplicate-collapsed", first.pointer, item.pointer)
                continue
            if provider := _professional(item, key, reader, build):
                providers.append(provider)
                known.update({key: item} if key else {})
    return providers


def _email_key(email: str | None) -> str | None:
    """Return an e-mail address as a provider's key; None for a placeholder (mapping.md §2.6)."""
    return None if email is None or is_placeholder(email) else email.lower()


def _professional(item: Item[Provider], key: str | None, reader: Reader, build: MappingBuilder) -> Professional | None:
    """Make the Practitioner of a provider with key and name; with one of them, a reference alone; else None."""
    sent, pointer, context = item.model, item.pointer, reader.context
    name, named = _name(sent)
    identity, role_at = "id" if sent.id else "email", f"{pointer}/role"
    reference: Element
    if key and name:
        telecom, contacts = _telecom(sent)
        build.claim(MAPPED, *(f"{pointer}/{field}" for field in (identity, *named, *contacts)))
        resource = practitioner(context, key, name, telecom, flags=reader.flags())
        reference = {"reference": context.reference("Practitioner", "professional", key)}
        return Professional(reference, sent.role, role_at, resource)
    if key:
        reference = {"type": "Practitioner", "identifier": context.identifier("professional", key)}
        return Professional(reference, sent.role, role_at, fields=(f"{pointer}/{identity}",))
    if name:
        display = sent.name if named == ["name"] else " ".join(filter(None, (sent.firstName, sent.lastName)))
        reference = {"type": "Practitioner", "display": display}
        return Professional(reference, sent.role, role_at, fields=tuple(f"{pointer}/{field}" for field in named))
    return None


def _name(sent: Provider) -> tuple[Element | None, Sequence[str]]:
    """Make the HumanName of a provider; returns with it the fields that it is made of."""
    if sent.firstName or sent.lastName:
        name = element(family=sent.lastName, given=listed(sent.firstName))
        return name, [field for field in ("firstName", "lastName") if getattr(sent, field)]
    return element(text=sent.name), ["name"]


def _telecom(sent: Provider) -> tuple[list[Element], list[str]]:
    """Make the contact points, each once; returns with them the fields that they are made of."""
    contact = sent.contact if isinstance(sent.contact, Contact) else Contact()
    points = [
        ("email", "email", sent.email),
        ("phone", "mobileNumber", sent.mobileNumber),
        ("phone", "phone", sent.phone),
        ("email", "contact/email", contact.email),
        ("phone", "contact/mobileNumber", contact.mobileNumber),
        ("phone", "contact/phone", contact.phone),
    ]
    if isinstance(sent.contact, str):
        points.append(("email" if "@" in sent.contact else "phone", "contact", sent.contact))
    telecom: list[Element] = []
    fields = []
    for system, field, value in points:
        if value and (point := {"system": system, "value": value}) not in telecom:
            telecom.append(point)
            fields.append(field)
    return telecom, fields
