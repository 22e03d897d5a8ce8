"""An appointment's ``date``, ``startTime`` and ``endTime`` → FHIR instants (mapping.md §11.4, §3.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fhirline.mappers.azodha.payload import AppointmentFields
from fhirline.mappers.azodha.reader import Found
from fhirline.mappers.context import Context
from fhirline.mappers.declarations import SOURCE_VALUE
from fhirline.mappers.fhir.elements import data_absent, extended
from fhirline.mappers.instants import Instant, written
from fhirline.mappers.results import Element, Flags
from fhirline.mappers.times import TZ_CODE, date_time

_A_DAY = "2000-01-01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIDNIGHT = time(0)


@dataclass(frozen=True, slots=True)
class SentInstant:
    """One end of an appointment as an event sent it.

    ``value`` goes into the appointment's state as plain JSON: ``date`` without its time, ``value`` and ``path`` of a
    readable instant, its ``companion``, and ``lone`` for a date without a time. ``names`` are the fields that it is
    made of.
    """

    value: Mapping[str, Any]
    flags: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """An ``instant`` element and its companion."""

    text: str | None
    companion: Element | None


def sent_instant(found: Found[AppointmentFields], name: str, context: Context) -> SentInstant | None:
    """Read ``startTime`` or ``endTime``, with ``date`` if it is a time alone; None where nothing is sent.

    A value that is unreadable or has no zone gets data-absent-reason ``unknown``, and what was sent as source-value.
    """
    sent = found.model
    text: str | None = getattr(sent, name)
    if text is None:
        return _lone_date(found, context)
    date = _date(sent.date, _zone(sent.timeZone) or context.settings.source_time_zone)
    names, whole = _date_and_time(text.strip(), name, date)
    zone = None if Instant.parse(whole) else _zone(sent.timeZone)
    flags = Flags()
    read = date_time(
        whole,
        zone or context.settings.source_time_zone,
        found.at[name],
        flags,
        lambda pointer, _, issue: context.source_value(pointer, text, issue),
        (lambda _: {}) if zone else context.value_basis,
        context.settings.tz_code,
    )
    codes = tuple(flag.code for flag in flags)
    if read is None or read.order is None:
        codes = codes or ("timezone-unknown",)
        sources = _source_values(found, names, context, codes[0])
        return SentInstant({"date": date, "companion": _absent(sources)}, codes, names)
    extensions = list((read.companion or {}).get("extension", ()))
    if read.text != text:
        sources = _source_values(found, names, context)
        extensions.extend(source for source in sources if source not in extensions)
    if zone and zone != "UTC" and not context.settings.tz_code:
        extensions.extend(_source_values(found, ("timeZone",), context))
    value: dict[str, Any] = {"date": date, "value": read.text, "path": found.at[name]}
    if extensions:
        value["companion"] = {"extension": extensions}
    return SentInstant(value, codes, (*names, "timeZone") if zone else names)


def _lone_date(found: Found[AppointmentFields], context: Context) -> SentInstant | None:
    """Read a date that is sent without any time: no instant, but a later event may repeat it."""
    sent = found.model
    if sent.date is None or sent.startTime or sent.endTime:
        return None
    source = context.source_value(found.at["date"], sent.date)
    date = _date(sent.date, _zone(sent.timeZone) or context.settings.source_time_zone)
    return SentInstant({"date": date, "companion": _absent([source]), "lone": True}, (), ("date",))


def _date_and_time(text: str, name: str, date: str | None) -> tuple[tuple[str, ...], str]:
    """Complete a time alone with the date. Returns the fields used, and the date-time."""
    if written(f"{_A_DAY}T{text}"):
        return (name, "date") if date else (name,), f"{date or ''}T{text}"
    return (name,), text


def _date(sent: str | None, zone: str | None) -> str | None:
    """Return the date of ``date``: its date part, where a date-time was sent (mapping.md §11.4).

    Midnight in ``zone``, written in another zone, is the date in ``zone``.
    """
    text = (sent or "").strip()
    if not (parts := written(text)):
        return text or None
    local = _local(text, zone) if zone else None
    return local.date().isoformat() if local and local.time() == _MIDNIGHT else parts.date


def _local(text: str, zone: str) -> datetime | None:
    """Return a date-time that has a zone of its own as the local time of ``zone``."""
    if not (instant := Instant.parse(text)):
        return None
    try:
        return (_EPOCH + timedelta(seconds=instant.order[0])).astimezone(ZoneInfo(zone))
    except OverflowError:  # within a zone's offset of the first or last year
        return None


def _source_values(
    found: Found[AppointmentFields], names: tuple[str, ...], context: Context, issue: str | None = None
) -> list[Element]:
    return [context.source_value(found.at[name], getattr(found.model, name), issue) for name in names]


def moment(stored: Mapping[str, Any] | None, context: Context) -> Moment:
    """Make the ``instant`` of a value of `SentInstant`; without one, the companion tells why (§3.4, rule 4)."""
    stored = stored or {}
    if text := stored.get("value"):
        extensions = (stored.get("companion") or {}).get("extension", ())
        allowed = (extension for extension in extensions if context.settings.tz_code or extension.get("url") != TZ_CODE)
        return Moment(text, extended(*allowed))
    return Moment(None, stored.get("companion") or data_absent("unknown"))


def left_out(stored: Mapping[str, Any], context: Context) -> Moment:
    """Leave out an end before its start (mapping.md §3.4, rule 5); the companion keeps what was sent."""
    source_value = context.naming.extension(SOURCE_VALUE)
    extensions = stored.get("companion", {}).get("extension", ())
    kept = [extension for extension in extensions if extension["url"] == source_value]
    return Moment(None, _absent(kept or [context.source_value(stored["path"], stored["value"])]))


def _absent(sources: list[Element]) -> Element:
    return {"extension": [*data_absent("unknown")["extension"], *sources]}


def _zone(name: str | None) -> str | None:
    """Return the name of an IANA time zone that exists; None for any other."""
    if name is None:
        return None
    try:
        return ZoneInfo(name.strip()).key
    except (KeyError, ValueError, OSError):
        return None
