"""An appointment's ``date``, ``startTime`` and ``endTime`` as FHIR instants (mapping.md §11.4, §3.4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from fhirline.mappers.azodha.payload import AppointmentFields
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import data_absent
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import Element, Flags
from fhirline.mappers.times import date_time

_TIME = r"(\d{2}:\d{2})(:\d{2}(?:\.\d{1,18})?)?(?:([Zz])|([+-]\d{2}):?(\d{2}))?"
_TIME_ALONE = re.compile(_TIME, re.ASCII)
_DATE_AND_TIME = re.compile(rf"(\d{{4}}-\d{{2}}-\d{{2}})[Tt ]{_TIME}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Said:
    """One end of an appointment as an event sent it: JSON-safe ``value``, its flags, and the fields it came from."""

    value: Mapping[str, Any]
    flags: tuple[str, ...]
    names: tuple[str, ...]


def instant(reader: Reader, found: Found[AppointmentFields], name: str) -> Said | None:
    """``startTime`` or ``endTime``, with ``date`` where it is a time alone; None where nothing is sent.

    Without a readable value and a zone: no value, data-absent-reason ``unknown``, and what was sent as source-value.
    ``date`` in the value is the date as sent, by which a later event's ``lone`` date is told to be the same.
    """
    sent, context = found.model, reader.context
    text: str | None = getattr(sent, name)
    if text is None:
        if sent.date is None or sent.startTime or sent.endTime:
            return None
        lone = context.source_value(found.at["date"], sent.date)
        return Said({"date": sent.date, "companion": _absent([lone]), "lone": True}, (), ("date",))
    names: tuple[str, ...] = (name,)
    whole, zoned = _whole(text.strip()), False
    if time := _TIME_ALONE.fullmatch(text.strip()):
        names = (name, "date") if sent.date else names
        whole = _whole(f"{(sent.date or '').strip()}T{time[0]}")
    zoned = Instant.parse(whole) is not None
    zone = None if zoned else _zone(sent.timeZone)
    flags = Flags()
    read = date_time(
        whole,
        zone or context.settings.source_time_zone,
        found.at[name],
        flags,
        lambda pointer, _, issue: context.source_value(pointer, text, issue),
        (lambda _: {}) if zone else context.value_basis,
    )
    codes = tuple(flag.code for flag in flags)
    if read is None or read.order is None:
        codes = codes or ("timezone-unknown",)
        sources = [context.source_value(found.at[each], getattr(sent, each), codes[0]) for each in names]
        return Said({"date": sent.date, "companion": _absent(sources)}, codes, names)
    extensions = list((read.companion or {}).get("extension", ()))
    if read.text != text:
        sources = [context.source_value(found.at[each], getattr(sent, each)) for each in names]
        extensions.extend(each for each in sources if each not in extensions)
    value: dict[str, Any] = {"date": sent.date, "value": read.text, "path": found.at[name]}
    if extensions:
        value["companion"] = {"extension": extensions}
    return Said(value, codes, (*names, "timeZone") if zone else names)


def _whole(text: str) -> str:
    """A date-time as RFC 3339 writes it, where only the seconds or the offset's colon are missing; else as it is."""
    if not (found := _DATE_AND_TIME.fullmatch(text)):
        return text
    date, minutes, seconds, zulu, hours, rest = found.groups()
    return f"{date}T{minutes}{seconds or ':00'}{'Z' if zulu else f'{hours}:{rest}' if hours else ''}"


def without_value(said: Mapping[str, Any] | None) -> Element:
    """Companion of an instant that has no value, whatever is known of it."""
    companion: Element | None = (said or {}).get("companion")
    return companion or data_absent("unknown")


def left_out(context: Context, said: Mapping[str, Any]) -> Element:
    """Companion of an end that lies before its start (mapping.md §3.4, rule 5): what was sent is kept."""
    source_value = context.naming.extension("source-value")
    kept = [each for each in said.get("companion", {}).get("extension", ()) if each["url"] == source_value]
    return _absent(kept or [context.source_value(said["path"], said["value"])])


def _absent(sources: list[Element]) -> Element:
    return {"extension": [*data_absent("unknown")["extension"], *sources]}


def _zone(name: str | None) -> str | None:
    """An IANA time zone that exists."""
    if name is None:
        return None
    try:
        return ZoneInfo(name.strip()).key
    except (KeyError, ValueError, OSError):
        return None
