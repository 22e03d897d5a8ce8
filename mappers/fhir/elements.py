"""Builders with FHIR's own names. Each returns plain JSON, prunes what is absent, and is None where nothing is left.

Keyword order is element order: write elements as the FHIR page lists them. A trailing underscore gives Python's
keywords (``class_``); a leading one is the primitive's companion (``_status``).
"""

import keyword
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fhirline.mappers.results import Element, Resource

DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"


_NUMBERS = (bool, int, float)
"""Types whose falsy value is a value."""


_KEYWORDS = {f"{each}_": each for each in keyword.kwlist}
"""How Python's keywords are written as names: ``class_`` → ``class``."""


def element(**content: Any) -> Element | None:
    """Any complex element: absent members pruned; None if none is left."""
    return _pruned(content) or None


def resource(resource_type: str, id: str, /, **content: Any) -> Resource:
    """A resource with its place for ``meta``, which `mappers.pipeline.normalize` fills."""
    return {"resourceType": resource_type, "id": id, "meta": {}, **_pruned(content)}


def _pruned(content: Mapping[str, Any]) -> Element:
    pruned = {name: value for name, value in content.items() if value or type(value) in _NUMBERS}
    if _KEYWORDS.keys().isdisjoint(pruned):
        return pruned
    return {_KEYWORDS.get(name, name): value for name, value in pruned.items()}


def listed(*items: Any) -> list[Any] | None:
    """The items that are there, as a list; None if none is."""
    return [item for item in items if item or type(item) in _NUMBERS] or None


def coding(system: str | None, code: str, display: str | None = None) -> Element:
    made = {"system": system, "code": code} if system else {"code": code}
    if display:
        made["display"] = display
    return made


def codeable_concept(*codings: Element | None, text: str | None = None) -> Element | None:
    coded = [each for each in codings if each]
    if not coded:
        return {"text": text} if text else None
    return {"coding": coded, "text": text} if text else {"coding": coded}


def identifier(system: str, value: str, **content: Any) -> Element:
    named = {"system": system, "value": value}
    return {**(element(**content) or {}), **named} if content else named


def reference(target: str | None, display: str | None = None) -> Element | None:
    """A literal reference ``Type/id``."""
    if target and not display:
        return {"reference": target}
    return element(reference=target, display=display)


def annotation(text: str | None) -> Element | None:
    return element(text=text)


def data_absent(reason: str) -> Element:
    """An element (or a primitive's companion) that holds only why there is no value."""
    return {"extension": [{"url": DATA_ABSENT, "valueCode": reason}]}


def extended(*extensions: Element | None) -> Element | None:
    """A companion of a primitive (``_date``) that holds extensions, None if there are none."""
    return element(extension=listed(*extensions))


def decimal(number: Decimal | None) -> int | float | None:
    """A number as JSON writes it without losing a digit; None where a double cannot hold it."""
    if number is None:
        return None
    if number == number.to_integral_value():
        whole = int(number)
        return whole if abs(whole) < 2**53 else None
    plain = float(number)
    return plain if Decimal(repr(plain)) == number else None


def integer(number: Decimal | None, least: int = -(2**31), most: int = 2**31 - 1) -> int | None:
    """A whole number within FHIR's integer (or the given bounds); None otherwise."""
    if number is None or number != number.to_integral_value() or not least <= number <= most:
        return None
    return int(number)
