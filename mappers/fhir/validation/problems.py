"""What a validator says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.results import Resource


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a resource and where (dotted FHIR, ``Encounter.status``); never the offending value."""

    path: str
    code: str
    message: str


Validator = Callable[[Resource], Sequence[Problem]]


def problems_text(problems: Sequence[Problem]) -> str:
    """One line of paths and codes, for logs and headers."""
    return "; ".join(f"{each.path} ({each.code})" for each in problems[:20])


def as_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"path": each.path, "code": each.code, "message": each.message} for each in problems]
