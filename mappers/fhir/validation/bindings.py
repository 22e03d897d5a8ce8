"""Required bindings of R4 4.0.1, from R4's definitions: fhir.resources' own lists are incomplete.

``config/r4-required-bindings.json`` maps an element (``EncounterLocation.status``) to its allowed codes. The open sets
(MIME types, languages, currencies) are not in it.
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
"""CodeableConcepts with a required binding: code system and codes. Each value set is the whole code system."""


@cache
def codes() -> dict[str, list[str]]:
    """Return ``<structure>.<element>`` → allowed codes, of the code elements with a required binding."""
    loaded: dict[str, list[str]] = orjson.loads((files("fhirline.config") / "r4-required-bindings.json").read_bytes())
    return loaded


def has_code(concept: Element, system: str, allowed: frozenset[str]) -> bool:
    """Return whether one of the concept's codings is in the bound value set, which satisfies a required binding."""
    return any(_is_bound(coding, system, allowed) for coding in concept.get("coding", ()))


def _is_bound(coding: dict[str, Any], system: str, allowed: frozenset[str]) -> bool:
    return coding.get("system") == system and coding.get("code") in allowed
