"""Mode ``fhir.resources``: validation by the reference model, and comparison of the compiled validator with it."""

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
    """Validate with fhir.resources' R4B models, whose fields are those of R4 4.0.1 for our resource types."""
    resource_type = str(resource.get("resourceType"))
    try:
        model = _model(resource_type)
    except (KeyError, ValueError, ImportError):
        return [Problem("resourceType", "unknown-type", "The resource type is missing or none of R4B's")]
    try:
        model.model_validate(resource)
    except ValidationError as error:
        return [
            Problem(".".join([resource_type, *map(str, found["loc"])]), found["type"], _message(found["type"]))
            for found in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    except Exception as error:  # noqa: BLE001  # its validators raise any exception on odd input: all mean invalid
        return [Problem(resource_type, "not-readable", type(error).__name__)]
    return []


def _message(kind: str) -> str:
    """Make a message of the kind of error: some of fhir.resources' own messages quote the input."""
    return kind.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The problems that each of two validators found in a resource, without the resource's values."""

    resource_type: str
    compiled: tuple[Problem, ...]
    reference: tuple[Problem, ...]


OnDisagreement = Callable[[Disagreement], None]


def ignored(_: Disagreement) -> None:
    """Ignore a disagreement."""


def both(compiled: Validator, on_disagreement: OnDisagreement = ignored) -> Validator:
    """Return a validator that reports the problems of both, and calls ``on_disagreement`` where only one finds any."""

    def validate(resource: Resource) -> Sequence[Problem]:
        found, reference = tuple(compiled(resource)), tuple(fhir_resources(resource))
        if bool(found) != bool(reference):
            on_disagreement(Disagreement(str(resource.get("resourceType")), found, reference))
        return found + reference

    return validate


def sampled(validator: Validator, every: int, on_disagreement: OnDisagreement) -> Validator:
    """Return ``validator`` with one call in ``every``, the first included, compared with fhir.resources.

    The result is always that of ``validator``; a difference is only passed to ``on_disagreement``.
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
