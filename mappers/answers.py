"""Values without a known structure as items of a QuestionnaireResponse, one item per leaf (mapping.md §11.3, §10)."""

from dataclasses import dataclass
from typing import Any

from fhirline.mappers.fhir.elements import element
from fhirline.mappers.json_pointer import leaves_of, parts
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.redaction.credentials import secret_value
from fhirline.mappers.pipeline.redaction.keys import secret_key
from fhirline.mappers.pipeline.redaction.redact import REDACTED
from fhirline.mappers.results import Element

_LARGEST_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LeafItem:
    """One leaf as a QuestionnaireResponse item, and the leaf's JSON Pointer."""

    pointer: str
    item: Element


def answer(value: Any) -> Element | None:
    """Convert a JSON value to a typed answer (``valueBoolean``, …); None for a blank value, a list or an object."""
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value} if abs(value) <= _LARGEST_INTEGER else {"valueDecimal": value}
    if isinstance(value, float):
        return {"valueDecimal": value}
    return element(valueString=clean(value)) if isinstance(value, str) else None


def leaf_items(value: Any, pointer: str) -> list[LeafItem]:
    """Make an item of each leaf below ``value``: ``linkId`` is its JSON Pointer, ``text`` its key.

    Leaves that are redacted or look like secrets are left out (mapping.md §7).
    """
    items = []
    for place, leaf in leaves_of(value, pointer):
        typed = answer(leaf)
        if typed and not secret_leaf(place, leaf) and (item := element(linkId=clean(place), text=label(place))):
            items.append(LeafItem(place, {**item, "answer": [typed]}))
    return items


def secret_leaf(pointer: str, value: object) -> bool:
    """Return whether a leaf without a model is withheld, because of its value or of a key above it (mapping.md §7)."""
    keys = parts(pointer)
    return value == REDACTED or secret_value(value, keys[-1] if keys else "") or any(map(secret_key, keys))


def label(pointer: str) -> str | None:
    """Return the last key of a pointer, list positions passed over."""
    return clean(next((part for part in reversed(parts(pointer)) if not part.isdecimal()), ""))
