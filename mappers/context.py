"""`Context`: names, settings, code tables and event time, which a mapping function gets with the payload.

A context is immutable. A mapping uses it to name resources, to read times and words, and to make the project's own
extensions; it does not need the envelope.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

import orjson

from fhirline.config.terminology import Row, Terminology
from fhirline.config.vendors import TenantSettings
from fhirline.mappers import declarations
from fhirline.mappers.declarations import CodeSystem, Extension
from fhirline.mappers.fhir import elements
from fhirline.mappers.identity import Naming, Part, key
from fhirline.mappers.json_pointer import items_of, value_at
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.limits import CONTENT_CUT, MAX_STRING, STRING_CUT, Cut, short
from fhirline.mappers.results import Element, Flags, MergeStrategy, NewResource, Resource, Version
from fhirline.mappers.times import DateTime, EventTime, birth_date, date_time

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Item(Generic[Model]):
    """An item of a vendor's list: its JSON Pointer, its model, and its redacted JSON as sent."""

    pointer: str
    model: Model
    raw: Any


@dataclass(frozen=True, slots=True)
class Context:
    """One event: its envelope, type and time, and the configuration of its tenant.

    ``event_type`` is a known type, never payload text. ``version`` orders the event among others (mapping.md §3.2).
    """

    envelope: Envelope
    event_type: str
    time: EventTime
    settings: TenantSettings
    naming: Naming
    terminology: Terminology
    vendor_name: str
    version: Version = field(init=False)

    def __post_init__(self) -> None:
        version = Version(self.time.ranked.order, self.envelope.event_key, self.time.ranked.text)
        object.__setattr__(self, "version", version)

    # -- names (mapping.md §4)

    def id(self, resource_type: str, kind: str, *parts: Part) -> str:
        """Return the id of a resource: the same kind and key parts give the same UUID (mapping.md §4.1)."""
        return self.naming.id(self.envelope.vendor, self.envelope.tenant, resource_type, kind, *parts)

    def reference(self, resource_type: str, kind: str, *parts: Part) -> str:
        """Return the literal reference ``<ResourceType>/<id>`` as text. `elements.reference` makes an Element of it."""
        return f"{resource_type}/{self.id(resource_type, kind, *parts)}"

    def identifier(self, kind: str, value: Part, **content: Any) -> Element:
        """Make an Identifier in the vendor's own name space (mapping.md §4.2). A number is written in shortest form.

        ``kind`` is declared in the vendor's `VendorMapping.identifiers`, or in `declarations.IDENTIFIERS`.
        """
        text = value if isinstance(value, str) else key(value)
        return elements.identifier(self.naming.sid(self.envelope.vendor, self.envelope.tenant, kind), text, **content)

    def coding(self, system: CodeSystem, code: str, display: str | None = None) -> Element:
        """Make a Coding in one of the project's own code systems, or the vendor's (`declarations.CodeSystem`)."""
        return elements.coding(self.naming.code_system(system), code, display)

    def curated(self, row: Row | None) -> list[Element]:
        """Make the Codings of a code table's row (mapping.md §12), without SNOMED CT where the tenant switched it off.

        ``row`` is what ``context.terminology.row(table, words)`` found. The list is empty for None (words without a
        row), and for a row that has a meaning and no codings. Use it as ``codeable_concept(*context.curated(row),
        text=words)``: without codings the words stand alone.
        """
        if row is None:
            return []
        allowed = (code for code in row.codings if code.system != elements.SNOMED or self.settings.snomed)
        return [elements.coding(code.system, code.code, code.display) for code in allowed]

    def look_up(self, table: str, words: str | None, pointer: str, flags: Flags) -> Row | None:
        """Find the row of a code table for a vendor's words; flag words that have none (``unmapped-code``).

        ``pointer`` is the JSON Pointer of ``words``; ``flags`` are those of the resource. Returns None for words
        without a row, and where ``words`` is None.
        """
        row = self.terminology.row(table, words)
        if row is None and words is not None:
            flags.add("unmapped-code", pointer, table=table)
        return row

    def quantity(self, value: int | float | None, unit: str | None, row: Row | None) -> Element | None:
        """Make a Quantity in the vendor's unit, with the code of the unit's row where there is one; None for None.

        ``value`` is what `number` returns, ``row`` what `look_up` found for ``unit``.
        """
        if value is None:
            return None
        coded = next(iter(self.curated(row)), {})
        return elements.element(value=value, unit=unit, system=coded.get("system"), code=coded.get("code"))

    def number(self, value: Decimal | None, pointer: str, flags: Flags) -> int | float | None:
        """Return a number as JSON writes it; flag one that no JSON number can hold exactly (``value-unreadable``).

        ``value`` is a `payload.Number`; ``pointer`` is its JSON Pointer; ``flags`` are those of the resource.
        """
        number = elements.decimal(value)
        if number is None and value is not None:
            flags.add("value-unreadable", pointer)
        return number

    def snomed(self, code: str, display: str) -> Element | None:
        """Make a SNOMED CT Coding; None where the tenant switched SNOMED CT off (mapping.md §12)."""
        return elements.coding(elements.SNOMED, code, display) if self.settings.snomed else None

    @property
    def event_key(self) -> str:
        """Return the SHA-256 of the redacted body (mapping.md §2): the key part of resources of this event alone."""
        return self.envelope.event_key

    @property
    def organization(self) -> str:
        """Return the reference ``Organization/<id>`` of the vendor, which the pipeline makes (mapping.md §4.3)."""
        return self.reference("Organization", "vendor", self.envelope.vendor)

    # -- resources

    def resource(self, resource_type: str, kind: str, parts: Sequence[Part], /, **content: Any) -> Resource:
        """Make a resource whose id is made of ``kind`` and key ``parts``.

        ``content`` are its elements in FHIR's order, spelled as `mappers.fhir.elements` explains: absent ones are left
        out, ``class_`` is ``class``, ``_date`` is the companion of ``date``.
        """
        return elements.resource(resource_type, self.id(resource_type, kind, *parts), **content)

    # -- times

    def date_time(self, value: str | None, pointer: str, flags: Flags) -> DateTime | None:
        """Read a vendor's date-time as FHIR's, in the tenant's source time zone (mapping.md §3.4).

        ``pointer`` is the JSON Pointer of ``value``; ``flags`` are those of the resource. Returns None where nothing
        was sent, and where ``value`` cannot be read (flag ``value-unreadable``, which omits the value). Otherwise a
        `DateTime`: its ``text`` is the element (None for an impossible time, flag ``timestamp-invalid``), its
        ``companion`` (or None) the companion, which tells the zone's basis and what was sent; ``order`` is None for a
        date alone. Two of them make a Period with `times.period`; one is used as
        ``recorded=read and read.text, _recorded=read and read.companion``.
        """
        zone = self.settings.source_time_zone
        return date_time(value, zone, pointer, flags, self.source_value, self.value_basis, self.settings.tz_code)

    def instant(self, read: DateTime | None, sent: str | None, pointer: str) -> DateTime:
        """Make a FHIR ``instant`` of a date-time that `date_time` has read (mapping.md §3.4, rule 4).

        ``sent`` is what it was read from, at ``pointer``. A date alone is no instant: the text is None there and where
        nothing was read, and the companion states that the value is unknown, and what was sent. Used as
        ``start=made.text, _start=made.companion``.
        """
        if read is not None and read.order is not None:
            return read
        source = read and (read.companion or elements.extended(self.source_value(pointer, sent)))
        absent = elements.data_absent("unknown")["extension"]
        return DateTime(None, elements.extended(*absent, *(source or {}).get("extension", ())))

    def birth_date(self, value: str | None, pointer: str, flags: Flags) -> DateTime | None:
        """Read a date of birth (mapping.md §3.4, rule 8); arguments and result as those of `date_time`.

        None, without a flag, where ``value`` is no date.
        """
        return birth_date(value, pointer, self.envelope.received_at, flags, self.source_value)

    @property
    def basis_event_time(self) -> Element:
        """Make the companion of a date that is the event time: ``value-basis`` = ``event-time`` (mapping.md §5.2)."""
        return {"extension": [self.value_basis("event-time")]}

    # -- extensions (mapping.md §5.2)

    def source_value(self, pointer: str, value: object, issue: str | None = None) -> Element:
        """Make the ``source-value`` extension: what was sent for the element that it extends. ``issue`` is a flag."""
        return self._source(declarations.SOURCE_VALUE, pointer, value, issue)

    def source_data(self, pointer: str, value: object, issue: str | None = None) -> Element:
        """Make a ``source-data`` extension: a value for which FHIR has no element."""
        return self._source(declarations.SOURCE_DATA, pointer, value, issue)

    def value_basis(self, code: str) -> Element:
        """Make the ``value-basis`` extension: ``event-time``, ``config`` or ``default``."""
        return {"url": self.naming.extension(declarations.VALUE_BASIS_EXTENSION), "valueCode": code}

    def vendor_status(self, status: str | None) -> Element | None:
        """Make the ``vendor-status`` extension: the vendor's status, verbatim."""
        url = self.naming.extension(declarations.VENDOR_STATUS)
        return {"url": url, "valueString": status} if status else None

    def _source(self, declared: Extension, pointer: str, value: object, issue: str | None) -> Element:
        if isinstance(value, Cut):
            text, issue = value.text, CONTENT_CUT
        else:
            text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        if len(text) > MAX_STRING:
            text, issue = text[:MAX_STRING], issue or STRING_CUT
        parts = [
            {"url": "path", "valueString": clean(short(pointer)) or "/"},
            {"url": "value", "valueString": clean(text) or "-"},
        ]
        if issue:
            parts.append({"url": "issue", "valueCode": issue})
        return {"extension": parts, "url": self.naming.extension(declared)}

    # -- the body as sent

    def raw(self, pointer: str) -> Any:
        """Return the value at a JSON Pointer of the redacted body; None where there is none."""
        return value_at(self.envelope.body, pointer)

    def items(self, pointer: str, models: Sequence[Model | None]) -> Iterator[Item[Model]]:
        """Iterate over the readable items of a list, each with its own pointer.

        ``models`` is the list's field of the payload model (`payload.Items`). An object sent in place of the list is
        its only item, at ``pointer`` itself; one whose keys are all decimal numbers is the list, and the pointers have
        its keys.
        """
        if not models:
            return
        for (place, item), model in zip(items_of(self.raw(pointer), pointer), models, strict=False):
            if model is not None:
                yield Item(place, model, item)


def one_event(resource: Resource, flags: Flags | None = None, **label: Any) -> NewResource:
    """Make a `NewResource` whose id contains the event key: no other event can write it (mapping.md §3.2).

    ``label`` are further fields of `NewResource`.
    """
    return NewResource(resource, MergeStrategy.ONE_EVENT, tuple(flags or ()), **label)


def last_writer(resource: Resource, flags: Flags | None = None, **label: Any) -> NewResource:
    """Make a `NewResource` named by vendor ids: the event of greatest version replaces it whole (mapping.md §3.2)."""
    return NewResource(resource, MergeStrategy.LAST_WRITER, tuple(flags or ()), **label)


def constant(resource: Resource, flags: Flags | None = None) -> NewResource:
    """Make a `NewResource` of identity and configuration only: the same from every event (mapping.md §3.2)."""
    return NewResource(resource, MergeStrategy.CONSTANT, tuple(flags or ()), event_independent=True)
