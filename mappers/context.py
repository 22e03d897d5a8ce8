"""What a mapping function is given besides the payload: names, settings and the event's time. Nothing that changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson

from fhirline.config.terminology import Row, Terminology
from fhirline.config.vendors import TenantSettings
from fhirline.mappers.fhir import elements
from fhirline.mappers.identity import Naming, Part, key
from fhirline.mappers.json_pointer import value_at
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.results import Element, Flags, MergeStrategy, NewResource, Resource, Version
from fhirline.mappers.times import DateTime, EventTime, date_time

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Item(Generic[Model]):
    """An item of a vendor's list: its JSON Pointer, its model, and its JSON as sent (redacted)."""

    pointer: str
    model: Model
    raw: Any


@dataclass(frozen=True, slots=True)
class Context:
    """One event's surroundings. ``event_type`` is a known type, never payload text."""

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
        return self.naming.id(self.envelope.vendor, self.envelope.tenant, resource_type, kind, *parts)

    def reference(self, resource_type: str, kind: str, *parts: Part) -> str:
        """The literal reference ``Type/id`` as text."""
        return f"{resource_type}/{self.id(resource_type, kind, *parts)}"

    def identifier(self, kind: str, value: Part, **content: Any) -> Element:
        """A business identifier in the vendor's own name space (mapping.md §4.2)."""
        text = value if isinstance(value, str) else key(value)
        return elements.identifier(self.naming.sid(self.envelope.vendor, self.envelope.tenant, kind), text, **content)

    def coding(self, system: str, code: str, display: str | None = None) -> Element:
        """A coding in one of our own code systems."""
        return elements.coding(self.naming.code_system(system), code, display)

    def curated(self, row: Row | None) -> list[Element]:
        """The codings of a curated row that the tenant's switches allow (mapping.md §12)."""
        if row is None:
            return []
        allowed = (each for each in row.codings if each.system != elements.SNOMED or self.settings.snomed)
        return [elements.coding(each.system, each.code, each.display) for each in allowed]

    def snomed(self, code: str, display: str) -> Element | None:
        """A SNOMED CT coding that a rule names, where the tenant's switch allows it (mapping.md §12)."""
        return elements.coding(elements.SNOMED, code, display) if self.settings.snomed else None

    @property
    def event_key(self) -> str:
        return self.envelope.event_key

    @property
    def organization(self) -> str:
        """Reference of the vendor's Organization (mapping.md §4.3)."""
        return self.reference("Organization", "vendor", self.envelope.vendor)

    # -- resources

    def resource(self, resource_type: str, kind: str, parts: Sequence[Part], /, **content: Any) -> Resource:
        """A resource under the id of ``kind`` and key ``parts``; ``content`` in FHIR's element order."""
        return elements.resource(resource_type, self.id(resource_type, kind, *parts), **content)

    # -- times

    def date_time(self, value: str | None, pointer: str, flags: Flags) -> DateTime | None:
        """A vendor's date-time in the tenant's source time zone (mapping.md §3.4)."""
        zone = self.settings.source_time_zone
        return date_time(value, zone, pointer, flags, self.source_value, self.value_basis)

    @property
    def basis_event_time(self) -> Element:
        """The companion of a date that stands for an unsent one: ``value-basis`` = ``event-time``."""
        return {"extension": [self.value_basis("event-time")]}

    # -- extensions (mapping.md §5.2)

    def source_value(self, pointer: str, value: object, issue: str | None = None) -> Element:
        return self._source("source-value", pointer, value, issue)

    def source_data(self, pointer: str, value: object, issue: str | None = None) -> Element:
        return self._source("source-data", pointer, value, issue)

    def value_basis(self, code: str) -> Element:
        return {"url": self.naming.extension("value-basis"), "valueCode": code}

    def vendor_status(self, status: str | None) -> Element | None:
        return {"url": self.naming.extension("vendor-status"), "valueString": status} if status else None

    def _source(self, name: str, pointer: str, value: object, issue: str | None) -> Element:
        text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        parts = [
            {"url": "path", "valueString": clean(pointer) or "/"},
            {"url": "value", "valueString": clean(text) or "-"},
        ]
        if issue:
            parts.append({"url": "issue", "valueCode": issue})
        return {"extension": parts, "url": self.naming.extension(name)}

    # -- the body as sent

    def raw(self, pointer: str) -> Any:
        """The redacted body's value at a JSON Pointer; None where nothing is."""
        return value_at(self.envelope.body, pointer)

    def items(self, pointer: str, models: Sequence[Model | None]) -> Iterator[Item[Model]]:
        """The readable items of a list (or of an object sent in its place), each with its own pointer."""
        raw = self.raw(pointer)
        if not isinstance(raw, list):
            if models and models[0] is not None:
                yield Item(pointer, models[0], raw)
            return
        for position, model in enumerate(models):
            if model is not None:
                yield Item(f"{pointer}/{position}", model, raw[position])


def one_event(resource: Resource, flags: Flags | None = None, **label: Any) -> NewResource:
    """A resource keyed by this event alone (mapping.md §3.2)."""
    return NewResource(resource, MergeStrategy.ONE_EVENT, tuple(flags or ()), **label)


def last_writer(resource: Resource, flags: Flags | None = None, **label: Any) -> NewResource:
    """A resource keyed by vendor ids: whole, as the event of greatest version made it."""
    return NewResource(resource, MergeStrategy.LAST_WRITER, tuple(flags or ()), **label)


def constant(resource: Resource, flags: Flags | None = None) -> NewResource:
    """A resource of identity and configuration only."""
    return NewResource(resource, MergeStrategy.CONSTANT, tuple(flags or ()), event_independent=True)
