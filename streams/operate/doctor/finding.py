"""Results of checks."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The level of a finding: ``warning`` for what works badly or not for long, ``problem`` for what does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of a check. ``check``: its name. ``text``: what was found, without secrets. ``fix``: how to fix it.

    ``unusable``: a setting, file or table is wrong in such a way that other commands end over it at once.
    """

    check: str
    level: Level
    text: str
    fix: str = ""
    unusable: bool = False


def ok(check: str, text: str) -> Finding:
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, fix: str) -> Finding:
    return Finding(check, Level.WARNING, text, fix)


def problem(check: str, text: str, fix: str) -> Finding:
    return Finding(check, Level.PROBLEM, text, fix)


def unusable(check: str, text: str, fix: str) -> Finding:
    return Finding(check, Level.PROBLEM, text, fix, unusable=True)


def several(names: list[str], most: int = 3) -> str:
    """List names, and count those after the first ``most``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
