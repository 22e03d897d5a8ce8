"""Steps that the mappings of all Azodha events share: begin, look words up, keep values (mapping.md §11.1)."""

from collections.abc import Sequence
from typing import Any

from fhirline.config.terminology import Row
from fhirline.mappers.answers import secret_leaf
from fhirline.mappers.azodha.reader import EMPTY, Found, Reader, event_name, event_time
from fhirline.mappers.builder import EVENT_TYPE_READ, MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.results import Element, Flags
from fhirline.mappers.times import DateTime


def start(context: Context) -> tuple[Reader, MappingBuilder]:
    """Begin an event: flag an unconfirmed payload, and claim the event's time and name (mapping.md §2, §3.3)."""
    build, body = MappingBuilder(), context.envelope.body
    reader = Reader(context, build)
    for code in reader.unconfirmed:
        build.flag(code)
    time, name = event_time(context.envelope), event_name(body)
    if time and context.raw(time[0]) == context.time.instant.text:  # another text is kept
        build.claim("mapped §3.3", time[0])
    build.claim(EVENT_TYPE_READ, name[0] if name and name[1] == context.event_type else None)
    return reader, build


def time_with_zone(
    found: Found[Any], names: Sequence[str], reader: Reader, build: MappingBuilder
) -> tuple[str, DateTime] | None:
    """Return (name, time) of the first of the fields that holds a possible time with a zone (mapping.md §3.3)."""
    for name in names:
        value, flags = getattr(found.model, name), Flags()
        read = reader.context.date_time(value, found.at[name], flags) if Instant.parse(value) else None
        if read and read.text:
            return name, read
        for flag in flags:
            build.flag(flag.code, *flag.at)
    return None


def look_up(table: str, words: str | None, pointer: str | None, reader: Reader, build: MappingBuilder) -> Row | None:
    """Look words up in a code table; count words without a row (mapping.md §12)."""
    row = reader.context.terminology.row(table, words)
    if words is not None and row is None:
        build.count_unmapped(table, pointer or "")
    return row


def source_data(pointer: str, treatment: str, reader: Reader, build: MappingBuilder) -> list[Element]:
    """Make ``source-data`` extensions of the leaves at or below a pointer, and claim them as ``treatment``.

    Leaves that look like secrets are not claimed: the ledger withholds them (mapping.md §7).
    """
    build.hide_keys(pointer)
    kept = []
    for place, value in leaves_of(reader.context.raw(pointer), pointer):
        blank = value in EMPTY or (isinstance(value, str) and value.isspace())
        if not blank and not secret_leaf(place, value):
            build.claim(treatment, place)
            kept.append(reader.context.source_data(place, value))
    return kept
