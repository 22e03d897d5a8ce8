"""Event times, and the vendors' date-times without a zone (mapping.md §3.3, §3.4)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from fhirline.mappers.fhir.elements import element, extended
from fhirline.mappers.instants import Instant, offset_text
from fhirline.mappers.results import Element, Flags

TZ_CODE = "http://hl7.org/fhir/StructureDefinition/tz-code"
FUTURE = timedelta(minutes=5)

_YEAR_2000 = (946_684_800, "")
_AHEAD = timedelta(hours=24)

_NAIVE = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,18})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
SourceValue = Callable[[str, object, str | None], Element]
ValueBasis = Callable[[str], Element]


@dataclass(frozen=True, slots=True)
class EventTime:
    """When an event happened, or was received where it has no usable time of its own.

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
    """A FHIR ``dateTime``: its text, its companion (extensions), and its order as an Instant (None for a date)."""

    text: str
    companion: Element | None = None
    order: tuple[int, str] | None = None
    as_date: "Callable[[], DateTime] | None" = None
    """Return the same truncated to its date, with the sent value as an extension; None for a date."""


def date_time(
    value: str | None,
    zone: str | None,
    pointer: str,
    flags: Flags,
    source_value: SourceValue,
    value_basis: ValueBasis,
) -> DateTime | None:
    """Read a vendor's date-time as a FHIR ``dateTime`` (mapping.md §3.4). Mappings call `Context.date_time`.

    A value with an offset of its own is kept as sent. One without is read in ``zone`` (an IANA name), with extension
    ``tz-code`` unless the zone is UTC. It is truncated to its date where ``zone`` is None or the local time does not
    exist. An unreadable value is None, with flag ``value-unreadable`` at ``pointer``.
    """
    if value is None:
        return None

    def cut() -> DateTime:
        return DateTime(value.strip()[:10], extended(source_value(pointer, value, None)))

    if instant := Instant.parse(value):
        changed = source_value(pointer, value, None) if instant.text != value else None
        return DateTime(instant.text, extended(changed), instant.order, cut)
    text = value.strip()
    if _DATE.fullmatch(text) and _is_date(text):
        return DateTime(text, extended(source_value(pointer, value, None) if text != value else None))
    found = _NAIVE.fullmatch(text)
    if not found or not _is_date(found[1]):
        flags.add("value-unreadable", pointer)
        return None
    date, minutes, seconds, fraction = found.groups()
    try:
        local = datetime.fromisoformat(f"{date}T{minutes}{seconds or ':00'}")
    except ValueError:
        flags.add("value-unreadable", pointer)
        return None
    if zone is None:
        flags.add("timezone-unknown", pointer)
        return DateTime(date, extended(source_value(pointer, value, "timezone-unknown")))
    try:
        aware = local.replace(tzinfo=ZoneInfo(zone), fold=0)
        if aware.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
            flags.add("dst-nonexistent", pointer)
            return DateTime(date, extended(source_value(pointer, value, "dst-nonexistent")))
        if aware.utcoffset() != aware.replace(fold=1).utcoffset():
            flags.add("dst-ambiguous", pointer)
        whole = offset_text(aware)
    except OverflowError:  # within a zone's offset of the first or last year
        flags.add("value-unreadable", pointer)
        return None
    emitted = whole[:19] + (fraction or "") + whole[19:]
    tz_code = None if zone == "UTC" else element(url=TZ_CODE, valueCode=zone)
    companion = extended(tz_code, source_value(pointer, value, None), value_basis("config"))
    instant = Instant.parse(emitted)
    return DateTime(emitted, companion, instant.order if instant else None, cut)


def period(start: DateTime | None, end: DateTime | None, flags: Flags, pointer: str) -> Element | None:
    """Make a FHIR Period. An end before its start is left out (``per-1``), with flag ``period-inverted``.

    ``per-1`` refuses a date and a time of the same day, which cannot be compared: both are then truncated to dates.
    """
    if start and end and (start.order is None) != (end.order is None) and start.text[:10] == end.text[:10]:
        start, end = (each.as_date() if each.as_date else each for each in (start, end))
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
    """Return whether ``end`` lies before ``start``: by instants where both have one, else by dates."""
    if start.order is not None and end.order is not None:
        return end.order < start.order
    return end.text[:10] < start.text[:10]


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
