"""Dates without identities: moved by the patient's days, or cut to the year; and the years of births."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:(T\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_YEAR = re.compile(r"(\d{4})(?:-\d\d(?:-\d\d.*)?)?", re.ASCII | re.DOTALL)

OLDEST = 89
"""The highest age that is not grouped (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C))."""

PATIENTS = ("subject", "patient", "beneficiary", "for", "target")
"""Elements of resources that refer to their patient."""

_KEY = "Patient/"


def shifted(text: str, days: int) -> str | None:
    """Move a moment into the past. The time of day and its zone stay, fractions of a second go.

    All moments of one patient move by the same days, so that the time between two of them stays as it is. A text that
    is no whole date becomes its year.

    >>> shifted("2024-03-01T08:30:00.123+03:00", 1), shifted("2024-03-01", 366), shifted("2024-03", 1)
    ('2024-02-29T08:30:00+03:00', '2023-03-01', '2024')
    """
    match = _MOMENT.fullmatch(text)
    if match is None:
        return year(text)
    try:
        day = date.fromisoformat(match[1]) - timedelta(days)
    except (ValueError, OverflowError):
        return year(text)
    return f"{day.isoformat()}{match[2] or ''}{match[3] or ''}"


def year(text: str) -> str | None:
    """Return the year of a date, or None for what is none.

    >>> year("2024-03-01T08:30:00Z"), year("soon")
    ('2024', None)
    """
    match = _YEAR.fullmatch(text)
    return match[1] if match else None


def oldest_year(this_year: int) -> int:
    """Return the last year of birth that is grouped: those born in it turn 90 in the next year, or are older.

    So the groups are right until the end of the next year, in which a process has to be started again.
    """
    return this_year - OLDEST


def birth_year(oldest: int) -> Callable[[str], str | None]:
    """Return a function that makes years of dates of birth.

    >>> of = birth_year(oldest_year(2026))
    >>> of("1984-05-06"), of("1937-01-01"), of("1901")
    ('1984', '1937 or earlier', '1937 or earlier')
    """

    def of(text: str) -> str | None:
        found = year(text)
        if found is None or int(found) > oldest:
            return found
        return f"{oldest} or earlier"

    return of


def patient_of(resource: Mapping[str, Any]) -> str | None:
    """Return the id of the patient whom a resource is about. None where it names none, or several.

    >>> patient_of({"resourceType": "Encounter", "subject": {"reference": "Patient/p1"}})
    'p1'
    """
    if resource.get("resourceType") == "Patient":
        return resource.get("id")
    found = {*_patients(resource)}
    return found.pop() if len(found) == 1 else None


def _patients(resource: Mapping[str, Any]) -> Iterator[str]:
    for name in PATIENTS:
        value = resource.get(name)
        for item in value if isinstance(value, list) else [value]:
            yield from _patient(item)
    for participant in resource.get("participant") or ():
        yield from _patient(participant.get("actor"))


def _patient(reference: Any) -> Iterator[str]:
    target = reference.get("reference") if isinstance(reference, Mapping) else None
    if isinstance(target, str) and target.startswith(_KEY):
        yield target.removeprefix(_KEY)
