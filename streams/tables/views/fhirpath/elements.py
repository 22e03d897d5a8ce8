"""Looks elements up in a resource's JSON, where ``value[x]`` is ``valueString``, ``valueQuantity`` and so on."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from fhirline.streams.tables.views.fhirpath.values import Collection

CHOICES: Final = frozenset(
    (
        "abatement allowed asNeeded author bounds content deceased dose effective item medication multipleBirth "
        "occurred occurrence onset probability product quantity rate reported scheduled subject target timing value "
        "when"
    ).split()
)
"""Elements of R4's published types, and of datatypes, that are a choice of types somewhere."""

_CHOSEN: Final = frozenset(
    (
        "Address Age Annotation Attachment Base64Binary Boolean Canonical Code CodeableConcept Coding ContactDetail "
        "ContactPoint Contributor Count DataRequirement Date DateTime Decimal Distance Dosage Duration Expression "
        "HumanName Id Identifier Instant Integer Markdown Meta Money Oid ParameterDefinition Period PositiveInt "
        "Quantity Range Ratio Reference RelatedArtifact SampledData Signature String Time Timing TriggerDefinition "
        "UnsignedInt Uri Url UsageContext Uuid"
    ).split()
)
"""Endings of the names of a choice element, one for each type."""

_JSON: Final[Mapping[str, tuple[type, ...]]] = {
    "boolean": (bool,),
    "integer": (int,),
    "integer64": (int,),
    "positiveInt": (int,),
    "unsignedInt": (int,),
    "decimal": (int, float, Decimal),
}
"""Types of JSON's values by FHIR's primitive types. All other primitives are texts."""


def elements(names: tuple[str, ...], choices: frozenset[str] = CHOICES) -> Callable[..., Collection]:
    """Return a function that follows a path of elements. Whatever has no such element is passed over."""
    steps = tuple((name, name in choices) for name in names)

    def follow(items: Collection, scope: object = None) -> Collection:
        for name, may_be_choice in steps:
            found: Collection = []
            for item in items:
                if type(item) is dict:
                    value = item.get(name)
                    if value is None:
                        if may_be_choice:
                            found.extend(_chosen(item, name))
                    elif type(value) is list:
                        found.extend(value)
                    else:
                        found.append(value)
            if not found:
                return found
            items = found
        return [item for item in items if item is not None] if None in items else items

    return follow


def _chosen(item: Mapping[str, Any], name: str) -> Iterator[Any]:
    length = len(name)
    for key, value in item.items():
        if key[length:] in _CHOSEN and key.startswith(name) and value is not None:
            yield value


def is_of_type(type_name: str) -> Callable[[Any], bool]:
    """Return a test whether an item is of a type, as far as JSON shows it: resources name theirs, objects do not."""
    if type_name[0].isupper():
        return lambda item: isinstance(item, dict) and item.get("resourceType", type_name) == type_name
    kinds = _JSON.get(type_name, (str,))
    return lambda item: isinstance(item, kinds) and (bool in kinds or not isinstance(item, bool))
