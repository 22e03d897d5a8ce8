"""Required bindings of R4 4.0.1. fhir.resources' own lists are cut off or missing, so these come from the definitions.

``config/r4-required-bindings.json``: structure and element (``EncounterLocation.status``) → the codes allowed there;
mime types, languages and currencies, which are open sets, are not in it.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from fhirline.mappers.results import Element

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"

CONCEPTS: dict[str, tuple[str, frozenset[str]]] = {
    "AllergyIntolerance.clinicalStatus": (
        f"{_TERMINOLOGY}allergyintolerance-clinical",
        frozenset({"active", "inactive", "resolved"}),
    ),
    "AllergyIntolerance.verificationStatus": (
        f"{_TERMINOLOGY}allergyintolerance-verification",
        frozenset({"unconfirmed", "confirmed", "refuted", "entered-in-error"}),
    ),
    "Condition.clinicalStatus": (
        f"{_TERMINOLOGY}condition-clinical",
        frozenset({"active", "recurrence", "relapse", "inactive", "remission", "resolved"}),
    ),
    "Condition.verificationStatus": (
        f"{_TERMINOLOGY}condition-ver-status",
        frozenset({"unconfirmed", "provisional", "differential", "confirmed", "refuted", "entered-in-error"}),
    ),
}
"""The CodeableConcepts with a required binding: code system and codes (both value sets hold the whole system)."""


@cache
def codes() -> dict[str, list[str]]:
    """The code elements with a required binding, by ``<structure>.<element>``."""
    loaded: dict[str, list[str]] = orjson.loads((files("fhirline.config") / "r4-required-bindings.json").read_bytes())
    return loaded


def has_code(concept: Element, system: str, allowed: frozenset[str]) -> bool:
    """Whether one of the concept's codings is of the bound value set, as a required binding of a concept wants."""
    return any(_is_bound(each, system, allowed) for each in concept.get("coding", ()))


def _is_bound(coding: dict[str, Any], system: str, allowed: frozenset[str]) -> bool:
    return coding.get("system") == system and coding.get("code") in allowed
