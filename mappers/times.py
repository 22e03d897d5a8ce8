"""Event times, and the vendors' date-times and dates of birth (mapping.md §3.3, §3.4)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from fhirline.mappers.fhir.elements import element, extended
from fhirline.mappers.instants import Instant, offset_text, plain, written
from fhirline.mappers.results import Element, Flags

TZ_CODE = "http://hl7.org/fhir/StructureDefinition/tz-code"
FUTURE = timedelta(minutes=5)

_YEAR_2000 = (946_684_800, "")
_AHEAD = timedelta(hours=24)

FIRST_YEAR, LAST_YEAR = 1900, 2199
"""Years of possible times. ``0001-01-01``, ``0000-00-00`` and ``9999-12-31`` are senders' words for "none"."""
TIMESTAMP_INVALID = "timestamp-invalid"

_MIDNIGHT = "00:00:00"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
SourceValue = Callable[[str, object, str | None], Element]
ValueBasis = Callable[[str], Element]


@dataclass(frozen=True, slots=True)
class EventTime:
    """The time of an event: when it happened, or was received if it has no usable time of its own.

    FHIR elements get ``instant``; events are ordered by ``ranked``. The two differ for an event time in the future.
    ``from_received``: ``ranked`` is the time of receipt, so that the time of the first receipt is kept in state.
    """

    instant: Instant
    ranked: Instant
    from_received: bool
    flags: tuple[str, ...] = ()


def event_time(sent: Instant | None, received_at: Instant, *flags: str, otherwise: str | None = None) -> EventTime:
    """Make an EventTime of the sent time, or of the receipt, with flag ``otherwise``, where none was sent.

    A sent time more than 5 minutes after the receipt is kept and ordered by receipt. ``flags`` are codes.
    """
    if sent is None:
        return EventTime(received_at, received_at, True, (*flags, otherwise) if otherwise else flags)
    if sent.order > received_at.shifted(FUTURE):
        return EventTime(sent, received_at, True, (*flags, "future-time"))
    return EventTime(sent, sent, False, flags)


def sent_event_time(value: object, number: Decimal | None, received_at: Instant) -> EventTime | None:
    """Make an EventTime of a date-time with a zone, or of a UNIX time; None for any other value (mapping.md §3.3).

    ``number`` is ``value`` as `payload.Number` reads it.
    """
    if instant := Instant.parse(value):
        return event_time(instant, received_at) if instant.order >= _YEAR_2000 and _possible(instant.text) else None
    return unix_event_time(number, received_at)


def unix_event_time(number: Decimal | None, received_at: Instant) -> EventTime | None:
    """Make an EventTime of UNIX seconds, or of milliseconds where only those give a plausible time (mapping.md §3.3).

    Plausible is from the year 2000 to a day after the receipt. None for any other number. Milliseconds have the flag
    ``timestamp-unit-assumed``.
    """
    if number is None:
        return None
    for seconds, flags in ((number, ()), (number.scaleb(-3), ("timestamp-unit-assumed",))):
        instant = Instant.from_unix(seconds)
        if instant and _YEAR_2000 <= instant.order <= received_at.shifted(_AHEAD):
            return event_time(instant, received_at, *flags)
    return None


@dataclass(frozen=True, slots=True)
class DateTime:
    """A FHIR ``dateTime``: its text, its companion (extensions), and its order as an Instant (None for a date).

    ``text`` is None for an impossible time; the companion contains what was sent.
    """

    text: str | None
    companion: Element | None = None
    order: tuple[int, str] | None = None
    as_date: "Callable[[], DateTime] | None" = None
    """Returns the same truncated to its date, with the sent value as an extension; None for a date."""


def date_time(
    value: str | None,
    zone: str | None,
    pointer: str,
    flags: Flags,
    source_value: SourceValue,
    value_basis: ValueBasis,
    tz_code: bool = False,
) -> DateTime | None:
    """Read a vendor's date-time as a FHIR ``dateTime`` (mapping.md §3.4). Mappings call `Context.date_time`.

    A value with an offset of its own is kept as sent. One without is read in ``zone`` (an IANA name), with extension
    ``tz-code`` where ``tz_code`` is set, unless the zone is UTC. It is truncated to its date where ``zone`` is None or
    the local time does not exist. An impossible time has no text, and flag ``timestamp-invalid`` at ``pointer``. An
    unreadable value is None, with flag ``value-unreadable``.
    """
    if value is None:
        return None
    text = plain(value)

    def cut() -> DateTime:
        return DateTime(text[:10], extended(source_value(pointer, value, None)))

    sent = written(text)
    if (sent or _DATE.fullmatch(text)) and not _possible(text):
        flags.add(TIMESTAMP_INVALID, pointer)
        return DateTime(None, extended(source_value(pointer, value, TIMESTAMP_INVALID)))
    if instant := Instant.parse(value):
        changed = source_value(pointer, value, None) if instant.text != value else None
        return DateTime(instant.text, extended(changed), instant.order, cut)
    if _DATE.fullmatch(text) and _is_date(text):
        return DateTime(text, extended(source_value(pointer, value, None) if text != value else None))
    local = _local(sent.date, sent.time) if sent and not sent.zone else None
    if sent is None or local is None:
        flags.add("value-unreadable", pointer)
        return None
    if zone is None:
        flags.add("timezone-unknown", pointer)
        return DateTime(sent.date, extended(source_value(pointer, value, "timezone-unknown")))
    try:
        aware = local.replace(tzinfo=ZoneInfo(zone), fold=0)
        if aware.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
            flags.add("dst-nonexistent", pointer)
            return DateTime(sent.date, extended(source_value(pointer, value, "dst-nonexistent")))
        if aware.utcoffset() != aware.replace(fold=1).utcoffset():
            flags.add("dst-ambiguous", pointer)
        whole = offset_text(aware)
    except OverflowError:  # within a zone's offset of the first or last year
        flags.add("value-unreadable", pointer)
        return None
    emitted = whole[:19] + (f".{sent.fraction}" if sent.fraction else "") + whole[19:]
    named = element(url=TZ_CODE, valueCode=zone) if tz_code and zone != "UTC" else None
    companion = extended(named, source_value(pointer, value, None), value_basis("config"))
    instant = Instant.parse(emitted)
    return DateTime(emitted, companion, instant.order if instant else None, cut)


def birth_date(
    value: str | None, pointer: str, received_at: Instant, flags: Flags, source_value: SourceValue
) -> DateTime | None:
    """Read a date of birth (mapping.md §3.4, rule 8). Mappings call `Context.birth_date`.

    A date-time at midnight is its date. A date before `FIRST_YEAR` or more than a day after the receipt is impossible:
    it has no text, and flag ``timestamp-invalid`` at ``pointer``. None, without a flag, for any other value.
    """
    text = plain(value or "")
    sent = written(text)
    day = sent.date if sent and sent.time == _MIDNIGHT and not sent.fraction.strip("0") else text
    if not _DATE.fullmatch(day):
        return None
    if not _possible(day) or day > _day_after(received_at):
        flags.add(TIMESTAMP_INVALID, pointer)
        return DateTime(None, extended(source_value(pointer, value, TIMESTAMP_INVALID)))
    if not _is_date(day):
        return None
    return DateTime(day, extended(source_value(pointer, value, None)) if day != value else None)


def _day_after(instant: Instant) -> str:
    """Return the date (UTC) a day after an instant: somewhere on earth it is tomorrow already."""
    return (date(1970, 1, 1) + timedelta(seconds=instant.order[0], days=1)).isoformat()


def period(start: DateTime | None, end: DateTime | None, flags: Flags, pointer: str) -> Element | None:
    """Make a FHIR Period; None without start and end.

    An end before its start is left out (``per-1``), with flag ``period-inverted`` at ``pointer``. ``per-1`` refuses a
    date and a time of the same day, which cannot be compared: both are then truncated to dates.
    """
    if start and end and (start.order is None) != (end.order is None) and _day(start) == _day(end):
        start, end = (item.as_date() if item.as_date else item for item in (start, end))
    if start and end and inverted(start, end):
        flags.add("period-inverted", pointer)
        end = None
    return element(
        start=start and start.text,
        _start=start and start.companion,
        end=end and end.text,
        _end=end and end.companion,
    )


def inverted(start: DateTime, end: DateTime) -> bool:
    """Return whether ``end`` lies before ``start``: by instants where both have one, else by dates.

    False where one of them is an impossible time.
    """
    if start.order is not None and end.order is not None:
        return end.order < start.order
    return bool(start.text and end.text) and _day(end) < _day(start)


def _day(moment: DateTime) -> str:
    return (moment.text or "")[:10]


def _possible(text: str) -> bool:
    """Return whether the year of a date or date-time is that of a possible time."""
    return FIRST_YEAR <= int(text[:4]) <= LAST_YEAR


def _local(date: str, time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{date}T{time}")
    except ValueError:
        return None


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
