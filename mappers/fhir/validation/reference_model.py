"""Mode ``fhir.resources``: the model of record, and the standing comparison with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ValidationError

from fhirline.mappers.fhir.validation.problems import Problem, Validator
from fhirline.mappers.results import Resource


@cache
def _model(resource_type: str) -> type[BaseModel]:
    from fhir.resources.R4B import get_fhir_model_class

    model: type[BaseModel] = get_fhir_model_class(resource_type)
    return model


def fhir_resources(resource: Resource) -> Sequence[Problem]:
    """Validate with fhir.resources' R4B models, the reference (field-identical with R4 4.0.1 for our types)."""
    resource_type = str(resource.get("resourceType"))
    try:
        model = _model(resource_type)
    except (KeyError, ValueError, ImportError):
        return [Problem("resourceType", "unknown-type", "The resource type is missing or none of R4B's")]
    try:
        model.model_validate(resource)
    except ValidationError as error:
        return [
            Problem(".".join([resource_type, *map(str, each["loc"])]), each["type"], _without_value(each["type"]))
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    except Exception as error:  # noqa: BLE001  # its validators raise what they like at odd input; all of it is a no
        return [Problem(resource_type, "not-readable", type(error).__name__)]
    return []


def _without_value(kind: str) -> str:
    """Some of fhir.resources' messages quote the input; the kind of error says enough."""
    return kind.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two validators, one resource, two verdicts. Holds no value of the resource."""

    resource_type: str
    compiled: tuple[Problem, ...]
    reference: tuple[Problem, ...]


OnDisagreement = Callable[[Disagreement], None]


def ignored(_: Disagreement) -> None:
    """Nobody wants to know."""


def both(compiled: Validator, on_disagreement: OnDisagreement = ignored) -> Validator:
    """What either finds. That they disagree is said, and is no problem of the resource."""

    def validate(resource: Resource) -> Sequence[Problem]:
        found, reference = tuple(compiled(resource)), tuple(fhir_resources(resource))
        if bool(found) != bool(reference):
            on_disagreement(Disagreement(str(resource.get("resourceType")), found, reference))
        return found + reference

    return validate


def sampled(validator: Validator, every: int, on_disagreement: OnDisagreement) -> Validator:
    """``validator``, whose verdict on one resource in ``every`` is compared with that of fhir.resources.

    The verdict is always ``validator``'s own; the comparison only tells. Counts its own calls: the first is compared.
    """
    if every < 1:
        raise ValueError("every must be at least 1")
    calls = 0

    def validate(resource: Resource) -> Sequence[Problem]:
        nonlocal calls
        found = validator(resource)
        if calls % every == 0:
            reference = fhir_resources(resource)
            if bool(found) != bool(reference):
                on_disagreement(Disagreement(str(resource.get("resourceType")), tuple(found), tuple(reference)))
        calls += 1
        return found

    return validate
