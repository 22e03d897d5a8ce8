"""Problems: what a validator returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.results import Resource


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a resource: its path (``Encounter.status``), a stable code, and a message without the value."""

    path: str
    code: str
    message: str


Validator = Callable[[Resource], Sequence[Problem]]


def problems_text(problems: Sequence[Problem]) -> str:
    """Write at most 20 problems' paths and codes in one line, for logs and headers."""
    return "; ".join(f"{problem.path} ({problem.code})" for problem in problems[:20])


def as_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the problems as JSON objects."""
    return [{"path": problem.path, "code": problem.code, "message": problem.message} for problem in problems]
