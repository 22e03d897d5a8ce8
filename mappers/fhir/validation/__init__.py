"""Validation of every resource before it is published (validation.md §1). A validator returns problems, none if valid.

The default, ``spec``, is compiled from fhir.resources' models into one pydantic-core schema. It also enforces what
those models do not: required bindings, reference targets, invariants, JSON types and no empty values. `compiled` runs
the schema; `structures` and `schema` make it.
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
    """Accept everything (mode ``off``)."""
    return []


def validator(mode: str, on_disagreement: OnDisagreement = ignored) -> Validator:
    """Return the validator of a mode (setting ``FHIRLINE_VALIDATION``); raise KeyError for an unknown mode.

    In mode ``both``, ``on_disagreement`` is called for every resource that only one of the two validators refuses.
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
