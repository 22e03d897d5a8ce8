"""Instants that keep every digit they were sent with and compare as points in time (mapping.md §3.2 to §3.4).

Python's ``datetime`` truncates fractions to microseconds. Vendors' and FHIR's instants may be finer.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache, total_ordering
from typing import NamedTuple, Self

from fhirline.mappers.identity import visible

_WRITTEN = re.compile(
    r"""
    (?P<date>\d{4}-\d{2}-\d{2}) (?:T|[ ]+)
    (?P<minutes>\d{2}:\d{2}) (?P<seconds>:\d{2} (?:[.,](?P<fraction>\d{1,18}))?)?
    \s* (?P<zone>
        (?: Z | UTC | GMT )
      | (?: UTC | GMT )? (?P<sign>[+-]) (?P<hours>\d{2}) (?: :? (?P<rest>\d{2}) )?
        (?: \s+ (?: [A-Z]{1,5} | \([^()]{1,60}\) ) )?
    )?
    (?: (?<=[Z\d]) \[ [\w/+-]{1,40} \] )?
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
"""ISO 8601 as senders write it: ``T`` or spaces, seconds or none, the zone in any usual form.

A name behind an offset (``+0200 CEST``, ``+02:00[Europe/Paris]``) repeats the zone, and is not read.
"""

_YEAR = r"(?:19|20)\d\d"
"""A year of our calendar: ``1445/05/06`` is one of the Hijri calendar, ``2567`` one of the Thai."""
_YEAR_FIRST = re.compile(
    rf"({_YEAR})([-/.])(\d{{1,2}})\2(\d{{1,2}})(?=$|T|\s)(?:(T|\s+)(\d)(?=:))?", re.ASCII | re.IGNORECASE
)
"""A date, year first, with another separator or without leading zeros, and the hour of one digit behind it."""
_BASIC = re.compile(rf"({_YEAR})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?(?!\d)", re.ASCII | re.IGNORECASE)
_NAMED_MONTH = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+)?"
    r"(?:(?P<day>\d{1,2})[ -](?P<month>[A-Z]{3})|(?P<name>[A-Z]{3})\s+(?P<number>\d{1,2}),?)[ -]"
    rf"(?P<year>{_YEAR})\s+(?=\d\d:)",
    re.ASCII | re.IGNORECASE,
)
"""The date of e-mail and HTTP (``Thu, 15 Jun 2023``), and of JavaScript (``Thu Jun 15 2023``)."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2212", "-"))
_DASHES = re.compile("[\u2012\u2013]")
_RANGE = re.compile(r"[\sT]\d{1,2}:\d\d-\d\d(?::?\d\d)?$", re.ASCII | re.IGNORECASE)
"""Two times of day in a row. Behind ISO's date the second is an offset; behind another date its meaning is unknown."""
_DATE = len("2024-01-05")
_ISO_DATE = re.compile(r"\d{4}-?\d\d-?\d\d[\sT]\d\d:?\d\d", re.ASCII | re.IGNORECASE)
_LONGEST = 200
"""Longest text that is read: longer ones are no time, and would fill the cache."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Written(NamedTuple):
    """The parts of a date-time, as FHIR writes them: ``zone`` is ``Z``, ``+01:00`` or empty, ``fraction`` digits."""

    date: str
    time: str
    fraction: str
    zone: str

    @property
    def text(self) -> str:
        return f"{self.date}T{self.time}{'.' if self.fraction else ''}{self.fraction}{self.zone}"


def plain(text: str) -> str:
    """Return a time in ISO 8601's order and separators, in ASCII digits, without white space or invisible marks around.

    A date is read only with the year first, or with the name of its month: ``05/06/2024`` has two readings.

    >>> plain(" \u0662\u0660\u0662\u0664-\u0660\u0661-\u0660\u0661\\u200f")
    '2024-01-01'
    >>> plain("2024/1/5 9:30"), plain("20240105T093000Z"), plain("Fri, 05 Jan 2024 09:30:00 GMT")
    ('2024-01-05 09:30', '2024-01-05T09:30:00Z', '2024-01-05T09:30:00 GMT')
    """
    text = text.strip()
    if len(text) > _LONGEST:
        return text
    if not text.isascii():
        text = visible(text).translate(_HYPHENS).strip()
        text = _DASHES.sub("-", text[:_DATE]) + text[_DATE:]  # between two times a dash is "to"
    if _RANGE.search(text) and not _ISO_DATE.match(text):
        return text
    if found := _YEAR_FIRST.match(text):
        year, _, month, day, between, hour = found.groups()
        hour = f"{between}0{hour}" if hour else ""
        return f"{year}-{month:0>2}-{day:0>2}{hour}{text[found.end() :]}"
    if found := _BASIC.match(text):
        year, month, day, hours, minutes, seconds = found.groups()
        return f"{year}-{month}-{day}T{hours}:{minutes}:{seconds or '00'}{text[found.end() :]}"
    if (found := _NAMED_MONTH.match(text)) and (name := (found["month"] or found["name"]).lower()) in _MONTHS:
        day, month = found["day"] or found["number"], _MONTHS.index(name) + 1
        return f"{found['year']}-{month:0>2}-{day:0>2}T{text[found.end() :]}"
    return text


def written(text: str) -> Written | None:
    """Split a date-time into its parts (mapping.md §3.3); None for any other text, a date alone included.

    Whether date and time exist in the calendar is not checked.

    >>> [written(text).text for text in ("2024-01-01t10:00:00.5+0000", "2024-01-01 10:00 UTC", "2024-01-01 10:00")]
    ['2024-01-01T10:00:00.5+00:00', '2024-01-01T10:00:00Z', '2024-01-01T10:00:00']
    """
    found = _WRITTEN.fullmatch(plain(text))
    if not found:
        return None
    zone = f"{found['sign']}{found['hours']}:{found['rest'] or '00'}" if found["sign"] else "Z" if found["zone"] else ""
    seconds = found["seconds"][:3] if found["seconds"] else ":00"
    return Written(found["date"], found["minutes"] + seconds, found["fraction"] or "", zone)


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
        """Read a date-time with a zone, in any form that `written` reads. None for anything else.

        A date-time without a zone, a date alone and a leap second are none.
        """
        return _parsed(value) if isinstance(value, str) and len(value) <= _LONGEST else None

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

    @property
    def milliseconds(self) -> int:
        """Return UNIX milliseconds, as Kafka's timestamps are, rounded down.

        >>> Instant.parse("1970-01-01T00:00:01.2345Z").milliseconds
        1234
        """
        seconds, fraction = self.order
        return seconds * 1000 + int(fraction[:3].ljust(3, "0"))

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
    """Read an instant. It is cached, because a fold reads the same texts again with every event of its subject."""
    sent = written(value)
    if sent is None or not sent.zone:
        return None
    try:
        offset = _offset(sent.zone)
        if offset is None:
            return None
        moment = datetime.fromisoformat(f"{sent.date}T{sent.time}+00:00") - offset
    except (ValueError, OverflowError):
        return None
    return Instant(sent.text, ((moment - _EPOCH) // _SECOND, sent.fraction.rstrip("0")))


def _offset(zone: str) -> timedelta | None:
    """Return the offset of ``Z`` or ``+01:00``; None for one that no zone has."""
    if zone == "Z":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[4:])
    offset = timedelta(hours=hours, minutes=minutes)
    if minutes > 59 or offset > timedelta(hours=14):
        return None
    return -offset if zone[0] == "-" else offset


def offset_text(moment: datetime) -> str:
    """Write an aware datetime of whole seconds as FHIR does: ``2024-01-01T00:00:00+01:00`` or ``…Z``."""
    offset = moment.utcoffset() or timedelta(0)
    if offset % timedelta(minutes=1):  # local mean times before standard time: FHIR's offsets have no seconds
        moment = moment.astimezone(timezone(timedelta(minutes=round(offset / timedelta(minutes=1)))))
    return moment.isoformat().replace("+00:00", "Z")
