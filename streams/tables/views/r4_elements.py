"""The elements of FHIR R4's structures, as expressions name them: ``value`` for ``valueString``, ``valueQuantity``, …

Importing it takes a second, because it loads R4's structures.
"""

from collections.abc import Mapping
from functools import cache

from fhirline.mappers.fhir.validation.structures import (
    COMPANION,
    RESOURCE_TYPES,
    Field,
    Structure,
    resource_structure,
    structure,
)


def _structure(name: str) -> Structure:
    """Return a structure. A primitive has an id and extensions only."""
    if name in RESOURCE_TYPES:
        return resource_structure(name)
    return structure(name if name[:1].isupper() else COMPANION)


def fields_of(name: str) -> Mapping[str, Field]:
    return _structure(name).fields


@cache
def choices_of(name: str) -> Mapping[str, tuple[str, ...]]:
    """Return the names of each choice of a structure by their beginning: ``value`` → ``valueString``, …"""
    return {_common(choice.names): choice.names for choice in _structure(name).choices}


def _common(names: tuple[str, ...]) -> str:
    first, last = min(names), max(names)
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    while length > 0 and not first[length].isupper():  # effectiveDate, effectiveDateTime
        length -= 1
    return first[:length]
