"""MediQuo's ``professional`` → Practitioner, and how other resources refer to it (mapping.md §8.1.2)."""

import re
from dataclasses import dataclass

from fhirline.mappers import people
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import element, reference
from fhirline.mappers.mediquo.payload import Professional
from fhirline.mappers.results import Element, Fold

PROFESSIONAL = "/payload/professional"

_HTTPS = re.compile(r"https://[^\s/]\S*")


@dataclass(frozen=True, slots=True)
class Professionals:
    """The professional of an event, if one is sent.

    ``practitioner``: the resource, where id and name are sent; nobody is known by a key alone (mapping.md §4.3).
    ``mention``: a Reference, logical where there is no resource; None where nobody is named.
    ``literal``: the reference ``Practitioner/<id>``, where there is a resource.
    ``omitted``: JSON Pointers of what neither the practitioner nor the mention contains.
    """

    practitioner: Fold | None
    mention: Element | None
    literal: str | None
    omitted: tuple[str, ...]


def professional_key(sent: Professional | None) -> str | None:
    """Return the Practitioner's key: ``id``, or ``hash`` where that is sent. Both name the same (mapping.md §8.3)."""
    return (sent.id or sent.hash) if sent else None


def professionals(sent: Professional | None, context: Context) -> Professionals:
    """Make the Practitioner or, without id or name, only the mention."""
    if sent is None:
        return Professionals(None, None, None, ())
    key = professional_key(sent)
    omitted = [f"{PROFESSIONAL}/hash"] if sent.id and sent.hash else []
    if key is None or sent.name is None:
        identifier = context.identifier("professional", key) if key else None
        mention = element(type="Practitioner", identifier=identifier, display=sent.name) if key or sent.name else None
        return Professionals(None, mention, None, (*omitted, f"{PROFESSIONAL}/avatar"))
    photo = {"url": sent.avatar} if sent.avatar and _HTTPS.fullmatch(sent.avatar) else None
    if photo is None:
        omitted.append(f"{PROFESSIONAL}/avatar")
    literal = context.reference("Practitioner", "professional", key)
    practitioner = people.practitioner(context, key, {"text": sent.name}, photo=photo)
    return Professionals(practitioner, reference(literal, sent.name), literal, tuple(omitted))
