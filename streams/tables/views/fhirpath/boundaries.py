"""The least and the greatest value that a date, a time or a decimal of some precision may mean."""

import calendar
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

Span: TypeAlias = tuple[str, str] | tuple[datetime, datetime]

_TIME = r"(?P<time>\d\d:\d\d(?::\d\d(?:\.\d+)?)?)"
_WRITTEN = re.compile(
    rf"(?P<date>\d{{4}}(?:-\d\d(?:-\d\d)?)?)(?:T{_TIME}?(?P<zone>Z|[+-]\d\d:\d\d)?)?|{_TIME.replace('time', 'only')}"
)

_SECOND = re.compile(r"\d\d:\d\d:\d\d(?=[Z+-]|$)")

EARLIEST_ZONE: Final = "+14:00"
LATEST_ZONE: Final = "-12:00"
"""The zones where a day without a zone begins first and ends last."""


def boundary(value: Any, high: bool) -> Any:
    """Return the least or the greatest value that a value may mean, or None where it has no boundaries.

    A date stays a date: whether it stands for a moment is the matter of the column's type.

    >>> boundary("1970-06", high=True), boundary("12:34:00", high=False), boundary(1.0, high=True)
    ('1970-06-30', '12:34:00.000', Decimal('1.05'))
    """
    if isinstance(value, dict):  # a Period
        return boundary(value.get("end" if high else "start"), high)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float, Decimal)):
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        half = Decimal(5).scaleb(_exponent(exact) - 1)
        return exact + half if high else exact - half
    if not isinstance(value, str) or (match := _WRITTEN.fullmatch(value)) is None:
        return None
    if match["only"]:
        return _time(match["only"], high)
    day = _day(match["date"], high)
    if day is None or "T" not in value:
        return day
    zone = match["zone"] or (LATEST_ZONE if high else EARLIEST_ZONE)
    return f"{day}T{_time(match['time'] or '', high)}{zone}"


def moment(value: Any, high: bool) -> Any:
    """Return the first or the last moment that a ``date`` or ``dateTime`` may mean, to the millisecond.

    >>> moment("2010-10-10", high=False)
    '2010-10-10T00:00:00.000+14:00'
    """
    found = boundary(value, high)
    if isinstance(found, str) and len(found) == 10:
        return f"{found}T{_time('', high)}{LATEST_ZONE if high else EARLIEST_ZONE}"
    return found


def spans(one: str, other: str) -> tuple[Span, Span] | None:
    """Return the least and the greatest meaning of each of two texts. None unless both are dates, or both times.

    Two days are compared as days; where one has a time, both are moments. A second stands for its beginning: FHIRPath
    counts seconds and their fraction as one.
    """
    one, other = (_SECOND.sub(r"\g<0>.000", value) for value in (one, other))
    matches = _WRITTEN.fullmatch(one), _WRITTEN.fullmatch(other)
    if matches[0] is None or matches[1] is None or bool(matches[0]["only"]) is not bool(matches[1]["only"]):
        return None
    as_moments = any(match["time"] for match in matches if match)
    try:
        return _span(one, as_moments), _span(other, as_moments)
    except (ValueError, OverflowError):  # the 31st of April, the year 0
        return None


def _span(value: str, as_moments: bool) -> Span:
    if not as_moments:
        return boundary(value, high=False) or "", boundary(value, high=True) or ""
    low, high = (datetime.fromisoformat(moment(value, high) or "") for high in (False, True))
    return low.astimezone(UTC), high.astimezone(UTC)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _day(date: str, high: bool) -> str | None:
    year, month, day = (*date.split("-"), None, None)[:3]
    month = month or ("12" if high else "01")
    if not 1 <= int(month) <= 12 or int(year or 0) < 1:
        return None
    last = calendar.monthrange(int(year or 0), int(month))[1]
    return f"{year}-{month}-{day or (f'{last:02}' if high else '01')}"


def _time(time: str, high: bool) -> str:
    """Fill up a time to the millisecond; what is beyond it is kept."""
    whole, _, fraction = time.partition(".")
    parts = whole.split(":") if whole else []
    whole = ":".join((*parts, *(("23", "59", "59") if high else ("00", "00", "00"))[len(parts) :]))
    return f"{whole}.{fraction.ljust(3, '9' if high else '0')}"
