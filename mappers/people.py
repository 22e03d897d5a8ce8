"""Patients and Practitioners: fed field by field by many events (mapping.md §3.2 "fields", §4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir import elements
from fhirline.mappers.results import BuiltResource, Element, Flag, Flags, Fold, NewResource, StateEntries

TELECOM = "telecom."


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a person as an event sent it: whole elements, and the flags that come with them.

    ``elements`` maps FHIR names (also companions such as ``_gender``) to values. ``name`` and ``telecom`` entries of
    several fields are joined into one list, in the order of the fields' names.
    """

    elements: Mapping[str, Any]
    flags: tuple[str, ...] = ()


PERSON_ORDER = (
    "extension",
    "identifier",
    "active",
    "name",
    "telecom",
    "gender",
    "_gender",
    "birthDate",
    "_birthDate",
    "photo",
)
_LISTS = frozenset({"extension", "identifier", "name", "telecom", "photo"})


def patient(
    context: Context,
    kind: str,
    vendor_key: str,
    fields: Mapping[str, Field] | None = None,
    flags: Sequence[str] = (),
) -> Fold:
    """The Patient of ``vendor_key``: identifiers as a sorted union, each other field as last sent.

    ``fields`` are named as mapping.md §3.2 names them (``name.text``, ``gender``, ``telecom.email``, …); what is not
    named is not erased. ``flags`` hold for the identifier (``schema-unconfirmed``).
    """
    subject = context.reference("Patient", kind, vendor_key)
    identifiers = [context.identifier(kind, vendor_key)]
    if context.settings.mrn_system:
        mrn = elements.coding("http://terminology.hl7.org/CodeSystem/v2-0203", "MR")
        identifiers.append(
            elements.identifier(context.settings.mrn_system, vendor_key, type=elements.codeable_concept(mrn))
        )
    updates: dict[str, Any] = {
        f"identifier {each['system']}|{each['value']}": {
            "elements": {"identifier": [each]},
            "flags": list(flags),
        }
        for each in identifiers
    }
    for name, field in (fields or {}).items():
        updates[f"field {name}"] = {"elements": dict(field.elements), "flags": list(field.flags)}
    return Fold(subject, updates, lambda registers: [person(subject, registers)], targets=(subject,))


def person(subject: str, registers: StateEntries) -> BuiltResource:
    """A Patient or Practitioner as it follows from its registers."""
    resource_type, _, id = subject.partition("/")
    content: dict[str, Any] = {}
    flags: set[str] = set()
    for name in sorted(registers):
        said = registers[name].value
        flags.update(said["flags"])
        for element, value in said["elements"].items():
            if element in _LISTS:
                content.setdefault(element, []).extend(value)
            else:
                content[element] = value
    ordered = {name: content[name] for name in PERSON_ORDER if name in content}
    return BuiltResource(
        elements.resource(resource_type, id, **ordered),
        max(entry.version for entry in registers.values()),
        tuple(Flag(code) for code in sorted(flags)),
    )


def practitioner(
    context: Context,
    key: str,
    name: Element,
    telecom: Sequence[Element] = (),
    photo: Element | None = None,
    identifiers: Sequence[Element] = (),
    flags: Flags | None = None,
) -> NewResource:
    """A Practitioner who was named (mapping.md §4.3), in the event's own view (§3.2)."""
    resource = context.resource(
        "Practitioner",
        "professional",
        (key,),
        identifier=sorted(identifiers, key=lambda each: (each["system"], each["value"]))
        or [context.identifier("professional", key)],
        name=[name],
        telecom=list(telecom),
        photo=elements.listed(photo),
    )
    return last_writer(resource, flags, event_independent=True)
