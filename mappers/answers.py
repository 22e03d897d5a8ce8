"""Answers of unknown shape as items of a QuestionnaireResponse: one per leaf (mapping.md §11.3, §10)."""

from dataclasses import dataclass
from typing import Any

from fhirline.mappers.fhir.elements import element
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.ledger import leaves_of, unescape
from fhirline.mappers.pipeline.redaction import REDACTED, secret_key, secret_value
from fhirline.mappers.results import Element

_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LeafItem:
    """One leaf as an item, and where it stood."""

    pointer: str
    item: Element


def answer(value: Any) -> Element | None:
    """A JSON value as a typed answer; None where it says nothing or is no single value."""
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value} if abs(value) <= _LARGEST else {"valueDecimal": value}
    if isinstance(value, float):
        return {"valueDecimal": value}
    return element(valueString=clean(value)) if isinstance(value, str) else None


def leaf_items(value: Any, pointer: str) -> list[LeafItem]:
    """An item per leaf: ``linkId`` its JSON Pointer, ``text`` its key.

    What is redacted or looks like a secret is left out: of what has no known structure nobody has said that it may
    be shown (mapping.md §7).
    """
    made = []
    for place, leaf in leaves_of(value, pointer):
        said = answer(leaf)
        if said and not secret_leaf(place, leaf) and (item := element(linkId=clean(place), text=label(place))):
            made.append(LeafItem(place, {**item, "answer": [said]}))
    return made


def secret_leaf(pointer: str, value: object) -> bool:
    """Whether a leaf without a model is withheld (mapping.md §7, last row)."""
    return value == REDACTED or secret_value(value) or any(secret_key(unescape(part)) for part in pointer.split("/"))


def label(pointer: str) -> str | None:
    """The last key of a pointer that is not a list's position."""
    parts = [unescape(part) for part in pointer.split("/")[1:]]
    return clean(next((part for part in reversed(parts) if not part.isdecimal()), ""))
