"""Every resource is validated before it leaves (validation.md §1). A validator returns problems; none means valid.

``spec`` (the default) is compiled from fhir.resources' own models into one pydantic-core schema and adds what those do
not enforce: required bindings, reference targets, invariants, JSON types, empties. See `compiled` for how it goes,
`structures` → `schema` for how it is made.
"""

from collections.abc import Sequence

from fhirline.mappers.fhir.validation.compiled import compiled
from fhirline.mappers.fhir.validation.problems import Problem, Validator, as_json, problems_text
from fhirline.mappers.fhir.validation.reference_model import (
    Disagreement,
    OnDisagreement,
    both,
    fhir_resources,
    ignored,
    sampled,
)
from fhirline.mappers.results import Resource

__all__ = [
    "Disagreement",
    "OnDisagreement",
    "Problem",
    "Validator",
    "as_json",
    "both",
    "compiled",
    "fhir_resources",
    "ignored",
    "no_validation",
    "problems_text",
    "sampled",
    "validator",
]


def no_validation(_: Resource) -> Sequence[Problem]:
    """Mode ``off``."""
    return []


def validator(mode: str, on_disagreement: OnDisagreement = ignored) -> Validator:
    """The validator of a mode (setting ``FHIRLINE_VALIDATION``).

    ``on_disagreement`` hears of every resource that one of ``both`` refuses and the other does not.
    """
    match mode:
        case "spec":
            return compiled
        case "fhir.resources":
            return fhir_resources
        case "both":
            return both(compiled, on_disagreement)
        case "off":
            return no_validation
    raise KeyError(mode)
