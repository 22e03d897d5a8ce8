"""Builders of FHIR elements. Each returns plain JSON without its absent members, or None where no member is left.

Keyword order is element order: pass elements in the order of the FHIR page. A trailing underscore escapes Python's
keywords (``class_``). A leading one names a primitive's companion (``_status``).

>>> element(text="for 7 days", timing=None)
{'text': 'for 7 days'}
>>> element(text=None) is None
True
>>> resource("Encounter", "1", status="finished", class_={"code": "VR"})
{'resourceType': 'Encounter', 'id': '1', 'meta': {}, 'status': 'finished', 'class': {'code': 'VR'}}
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
"""Types whose falsy values are not absent."""

_MOST_DIGITS = 308
"""Digits before or after the point of a number that a double may hold."""

_KEYWORDS = {f"{name}_": name for name in keyword.kwlist}
"""Escaped keyword → FHIR's name: ``class_`` → ``class``."""


def element(**content: Any) -> Element | None:
    """Make any complex element, without absent members (None, blank, empty); None if no member is left."""
    return _pruned(content) or None


def resource(resource_type: str, id: str, /, **content: Any) -> Resource:
    """Make a resource. Its empty ``meta`` is filled by the pipeline."""
    return {"resourceType": resource_type, "id": id, "meta": {}, **_pruned(content)}


def _pruned(content: Mapping[str, Any]) -> Element:
    pruned = {name: value for name, value in content.items() if value or type(value) in _NUMBERS}
    if _KEYWORDS.keys().isdisjoint(pruned):
        return pruned
    return {_KEYWORDS.get(name, name): value for name, value in pruned.items()}


def listed(*items: Any) -> list[Any] | None:
    """Make a list of the items that are not absent; None if all are."""
    return [item for item in items if item or type(item) in _NUMBERS] or None


def coding(system: str | None, code: str, display: str | None = None) -> Element:
    """Make a Coding."""
    made = {"system": system, "code": code} if system else {"code": code}
    if display:
        made["display"] = display
    return made


def codeable_concept(*codings: Element | None, text: str | None = None) -> Element | None:
    """Make a CodeableConcept of the codings that are not None, and a text; None without either."""
    coded = [coding for coding in codings if coding]
    if not coded:
        return {"text": text} if text else None
    return {"coding": coded, "text": text} if text else {"coding": coded}


def identifier(system: str, value: str, **content: Any) -> Element:
    """Make an Identifier. ``content`` are the elements that FHIR lists before ``system`` (``use``, ``type``)."""
    named = {"system": system, "value": value}
    return {**(element(**content) or {}), **named} if content else named


def reference(target: str | None, display: str | None = None) -> Element | None:
    """Make a Reference to ``Type/id``, or one of a display alone; None without either."""
    if target and not display:
        return {"reference": target}
    return element(reference=target, display=display)


def annotation(text: str | None) -> Element | None:
    """Make an Annotation of a text; None without one."""
    return element(text=text)


def data_absent(reason: str) -> Element:
    """Make an element, or a primitive's companion, that holds only the reason why there is no value."""
    return {"extension": [{"url": DATA_ABSENT, "valueCode": reason}]}


def extended(*extensions: Element | None) -> Element | None:
    """Make a primitive's companion (``_date``) of the extensions that are not None; None if all are."""
    return element(extension=listed(*extensions))


def decimal(number: Decimal | None) -> int | float | None:
    """Convert a Decimal to a JSON number without losing a digit; None where a double cannot hold it."""
    if number is None or not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return None
    if number == number.to_integral_value():
        whole = int(number)
        return whole if abs(whole) < 2**53 else None
    plain = float(number)
    return plain if Decimal(repr(plain)) == number else None


def integer(number: Decimal | None, least: int = -(2**31), most: int = 2**31 - 1) -> int | None:
    """Convert a Decimal to an int; None if it is not whole, or not within FHIR's integer (or the given bounds)."""
    if number is None or not least <= number <= most or number != number.to_integral_value():
        return None
    return int(number)
