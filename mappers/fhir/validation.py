"""Every resource is validated before it leaves (validation.md). A validator returns problems; none means valid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from mappers.contract import Resource


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a resource and where (dotted FHIR, ``Encounter.status``); never the offending value."""

    path: str
    code: str
    message: str


Validator = Callable[[Resource], Sequence[Problem]]


@cache
def _model(resource_type: str) -> type[BaseModel]:
    from fhir.resources.R4B import get_fhir_model_class

    model: type[BaseModel] = get_fhir_model_class(resource_type)
    return model


def fhir_resources(resource: Resource) -> Sequence[Problem]:
    """Validate with fhir.resources' R4B models, the reference (field-identical with R4 4.0.1 for our types)."""
    resource_type = str(resource.get("resourceType"))
    try:
        _model(resource_type).model_validate(resource)
    except ValidationError as error:
        return [
            Problem(".".join([resource_type, *map(str, each["loc"])]), each["type"], _without_value(each["type"]))
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    except KeyError:
        return [Problem(resource_type, "unknown-type", "no such resource type")]
    return []


def _without_value(kind: str) -> str:
    """Some of fhir.resources' messages quote the input; the kind of error says enough."""
    return kind.replace("_", " ")


def no_validation(_: Resource) -> Sequence[Problem]:
    """Mode ``off``."""
    return []


def validator(mode: str) -> Validator:
    """The validator of a mode (setting ``FHIRLINE_VALIDATION``)."""
    modes: dict[str, Validator] = {
        "spec": fhir_resources,
        "fhir.resources": fhir_resources,
        "both": fhir_resources,
        "off": no_validation,
    }
    return modes[mode]


def problems_text(problems: Sequence[Problem]) -> str:
    """One line of paths and codes, for logs and headers."""
    return "; ".join(f"{each.path} ({each.code})" for each in problems[:20])


def as_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"path": each.path, "code": each.code} for each in problems]
