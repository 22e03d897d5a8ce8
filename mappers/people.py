"""Patients and Practitioners, folded field by field from many events (mapping.md §3.2 "fields", §4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir import elements
from fhirline.mappers.results import BuiltResource, Element, Flag, Flags, Fold, StateEntries

IDENTIFIER, FIELD = "identifier ", "field "
"""Prefixes of the names of a person's state entries. Stored in the state topic."""
TELECOM = "telecom."
UNUSABLE_BIRTH_DATE = "birthDate.unusable"
"""Field of a date of birth that was sent and cannot be one. It shows where no event has sent a possible one."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a person as an event sent it: whole FHIR elements, and the codes of their flags.

    ``elements`` maps FHIR names (companions such as ``_birthDate`` included) to values. Lists of several fields
    (``name``, ``telecom``, …) are joined, in the order of the fields' names. Without elements the field is absent.

    ValueError: a name that is no element of Patient or Practitioner, which no person could have.
    """

    elements: Mapping[str, Any]
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := self.elements.keys() - {*PERSON_ORDER}:
            raise ValueError(f"no element of a Patient or Practitioner: {', '.join(sorted(unknown))}")


_ELEMENTS = (
    "extension",
    "identifier",
    "active",
    "name",
    "telecom",
    "gender",
    "birthDate",
    "deceasedBoolean",
    "deceasedDateTime",
    "address",
    "maritalStatus",
    "multipleBirthBoolean",
    "multipleBirthInteger",
    "photo",
    "contact",
    "qualification",
    "communication",
    "generalPractitioner",
    "managingOrganization",
    "link",
)
_PRIMITIVES = frozenset(
    {"active", "gender", "birthDate", "deceasedBoolean", "deceasedDateTime"}
    | {"multipleBirthBoolean", "multipleBirthInteger"}
)
PERSON_ORDER = tuple(
    name for element in _ELEMENTS for name in ((element, f"_{element}") if element in _PRIMITIVES else (element,))
)
"""The elements of Patient and Practitioner, and the companions of primitive ones, in FHIR's order."""
_LISTS = frozenset(
    {"extension", "identifier", "name", "telecom", "address", "photo", "contact", "qualification", "communication"}
    | {"generalPractitioner", "link"}
)


def patient(
    context: Context,
    kind: str,
    vendor_key: str,
    fields: Mapping[str, Field] | None = None,
    flags: Sequence[str] = (),
) -> Fold:
    """Make the Fold of a Patient: identifiers are a sorted union, each other field is kept as last sent.

    ``kind`` and ``vendor_key`` make its id. ``fields`` has names of mapping.md §3.2 (``name.text``, ``gender``,
    ``telecom.email``, …) and, of what is not listed there, the element's (``address``). A field that is not named keeps
    its stored value. ``flags`` are codes of flags of the identifier (``schema-unconfirmed``).
    """
    subject = context.reference("Patient", kind, vendor_key)
    identifiers = [context.identifier(kind, vendor_key)]
    if context.settings.mrn_system:
        mrn = elements.coding("http://terminology.hl7.org/CodeSystem/v2-0203", "MR")
        identifiers.append(
            elements.identifier(context.settings.mrn_system, vendor_key, type=elements.codeable_concept(mrn))
        )
    return _fold(subject, identifiers, fields or {}, flags)


def practitioner(
    context: Context,
    key: str,
    name: Element,
    telecom: Sequence[Element] = (),
    photo: Element | None = None,
    identifiers: Sequence[Element] = (),
    flags: Flags | None = None,
) -> Fold:
    """Make the Fold of a Practitioner who is named in the event (mapping.md §3.2, §4.3).

    ``key`` is the key part of its id, and the value of its identifier where ``identifiers`` are not given. Name, photo
    and the contact points of each system are kept as last sent: an event without one erases none. A name in parts and
    a name as text are one field.
    """
    codes = tuple(flag.code for flag in flags or ())
    fields = {"name": Field({"name": [name]}, codes)}
    for point in telecom:
        system = fields.setdefault(f"{TELECOM}{point['system']}", Field({"telecom": []}, codes))
        system.elements["telecom"].append(point)
    if photo:
        fields["photo"] = Field({"photo": [photo]}, codes)
    subject = context.reference("Practitioner", "professional", key)
    return _fold(subject, identifiers or [context.identifier("professional", key)], fields, codes)


def gender(words: str | None, table: str, pointer: str, context: Context, build: MappingBuilder) -> dict[str, Field]:
    """Make the field ``gender`` by a code table whose rows have ``means.gender``; empty where nothing was sent.

    Words without a row leave the Patient without a gender, flag ``unmapped-code``: what an earlier event sent is
    replaced too. They are omitted, so that the Provenance keeps them. ``pointer`` is their place.
    """
    if words is None:
        return {}
    if row := context.terminology.row(table, words):
        return {"gender": Field({"gender": row.means["gender"]})}
    build.count_unmapped(table, pointer)
    build.omit(pointer)
    return {"gender": Field({}, ("unmapped-code",))}


def birth_date(value: str | None, pointer: str, context: Context, build: MappingBuilder) -> dict[str, Field]:
    """Make the field ``birthDate`` (mapping.md §3.4, rule 8); empty where nothing was sent, or no date.

    A value that is no date is omitted, so that the Provenance keeps it. One in the future or before 1900 is in a
    ``source-value`` extension, flag ``timestamp-invalid``.
    """
    if value is None:
        return {}
    flags = Flags()
    born = context.birth_date(value, pointer, flags)
    if born is None:
        build.omit(pointer)
        return {}
    content = elements.element(birthDate=born.text, _birthDate=born.companion)
    name = "birthDate" if born.text else UNUSABLE_BIRTH_DATE
    return {name: Field(content or {}, tuple(flag.code for flag in flags))}


def known_person(subject: str) -> Fold:
    """Make a Fold that updates nothing: it builds a person as earlier events made it."""
    return Fold(subject, {}, lambda entries: [person(subject, entries)])


def _fold(
    subject: str, identifiers: Sequence[Element], fields: Mapping[str, Field], identifier_flags: Sequence[str]
) -> Fold:
    updates: dict[str, Any] = {
        f"{IDENTIFIER}{identifier['system']}|{identifier['value']}": {
            "elements": {"identifier": [identifier]},
            "flags": list(identifier_flags),
        }
        for identifier in identifiers
    }
    for name, field in fields.items():
        updates[f"{FIELD}{name}"] = {"elements": dict(field.elements), "flags": list(field.flags)}
    return Fold(subject, updates, lambda entries: [person(subject, entries)], targets=(subject,))


def person(subject: str, entries: StateEntries) -> BuiltResource:
    """Build a Patient or Practitioner from its state entries. ``subject`` is ``<ResourceType>/<id>``."""
    resource_type, _, id = subject.partition("/")
    content: dict[str, Any] = {}
    flags: set[str] = set()
    names = {name for name in entries if name.startswith((IDENTIFIER, FIELD))}
    if f"{FIELD}birthDate" in names:
        names.discard(f"{FIELD}{UNUSABLE_BIRTH_DATE}")
    for name in sorted(names):
        field = entries[name].value
        flags.update(field["flags"])
        for element, value in field["elements"].items():
            if element in _LISTS:
                content.setdefault(element, []).extend(value)
            else:
                content[element] = value
    ordered = {name: content[name] for name in PERSON_ORDER if name in content}
    return BuiltResource(
        elements.resource(resource_type, id, **ordered),
        max(entries[name].version for name in names),
        tuple(Flag(code) for code in sorted(flags)),
    )
