"""Instants that keep every digit they were sent with and compare as points in time (mapping.md §3.2 to §3.4).

Python's ``datetime`` truncates fractions to microseconds. Vendors' and FHIR's instants may be finer.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache, total_ordering
from typing import Self

_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,18}))?(?:([Zz])|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Instant:
    """An instant. ``text`` is a FHIR instant, digits and zone as sent; ``order`` is (epoch seconds, fraction digits).

    >>> late, early = Instant.parse("2024-01-01T01:00:00.10+01:00"), Instant.parse("2024-01-01T00:00:00.0999Z")
    >>> late > early, late == Instant.parse("2024-01-01T00:00:00.1Z")
    (True, True)
    """

    text: str
    order: tuple[int, str]

    @staticmethod
    def parse(value: object) -> "Instant | None":
        """Read an RFC 3339 date-time with a zone. None for anything else, a leap second and a date alone included."""
        return _parsed(value) if isinstance(value, str) else None

    @classmethod
    def at(cls, moment: datetime) -> Self:
        """Make an Instant of an aware datetime in UTC, truncated to milliseconds."""
        text = moment.isoformat(timespec="milliseconds").removesuffix("+00:00")
        return cls(f"{text}Z", ((moment - _EPOCH) // _SECOND, text[-3:].rstrip("0")))

    @classmethod
    def from_unix(cls, seconds: Decimal) -> Self | None:
        """Make an Instant of UNIX seconds, fractions kept; None outside the years 1 to 9999."""
        try:
            whole = int(seconds // 1)
            moment = _EPOCH + timedelta(seconds=whole)
        except (OverflowError, ValueError, ArithmeticError):
            return None
        fraction = f"{seconds - whole:f}".partition(".")[2].rstrip("0")
        text = f"{moment:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"
        return cls(text.rjust(len(text) + 4 - text.index("-"), "0"), (whole, fraction))

    def shifted(self, delta: timedelta) -> tuple[int, str]:
        """Return the ``order`` of this instant moved by whole seconds, to compare with "24 h later" and the like."""
        return (self.order[0] + delta // _SECOND, self.order[1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instant) and self.order == other.order

    def __lt__(self, other: "Instant") -> bool:
        return self.order < other.order

    def __hash__(self) -> int:
        return hash(self.order)


@lru_cache(maxsize=8192)
def _parsed(value: str) -> Instant | None:
    """Cached because a fold reads the same texts again with every event of its subject."""
    found = _RFC3339.fullmatch(value.strip())
    if not found:
        return None
    date, time, fraction, zulu, sign, hours, minutes = found.groups()
    try:
        offset = timedelta(0) if zulu else timedelta(hours=int(hours), minutes=int(minutes))
        if offset > timedelta(hours=14) or int(minutes or 0) > 59:
            return None
        moment = datetime.fromisoformat(f"{date}T{time}+00:00")
        if offset:
            moment -= -offset if sign == "-" else offset
    except (ValueError, OverflowError):
        return None
    zone = "Z" if zulu else f"{sign}{hours}:{minutes}"
    text = f"{date}T{time}{'.' + fraction if fraction else ''}{zone}"
    return Instant(text, ((moment - _EPOCH) // _SECOND, (fraction or "").rstrip("0")))


def offset_text(moment: datetime) -> str:
    """Write an aware datetime of whole seconds as FHIR does: ``2024-01-01T00:00:00+01:00`` or ``…Z``."""
    offset = moment.utcoffset() or timedelta(0)
    if offset % timedelta(minutes=1):  # local mean times before standard time: FHIR's offsets have no seconds
        moment = moment.astimezone(timezone(timedelta(minutes=round(offset / timedelta(minutes=1)))))
    return moment.isoformat().replace("+00:00", "Z")
