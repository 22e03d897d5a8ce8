"""Find what the FHIR server got of an event's resources, and the tables that have their rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fhirline.config.settings import Settings
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.index_entries import IndexedEvent
from fhirline.streams.deliver.entries import DELETED, SHARED_TYPES
from fhirline.streams.deliver.state import Sent, Waiting
from fhirline.streams.kafka.records import RecordPosition
from fhirline.streams.tables.views import View, ViewFailed, load_views

Digests = Callable[[str], Mapping[str, str]]
"""Reads a Bundle's position → digest of each of its resources, by ``Type/id``."""


class Delivered(NamedTuple):
    """A resource at the FHIR server. ``sent``: the Bundle that it was last sent for. ``newest``: the last that has it.

    ``current``: the server has the newest content.
    """

    resource: str
    sent: str
    newest: str
    current: bool
    state: str


class TableRows(NamedTuple):
    """A resource's rows in a table, without columns that are NULL in all. ``problem``: why there are none."""

    table: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    problem: str = ""


def delivered(index: EventIndex, digests: Digests, event: IndexedEvent) -> tuple[list[Delivered], list[Waiting]]:
    """Return what was delivered of each resource of an event, and the Bundles of its patient that wait.

    Raises KafkaAccessError.
    """
    own = RecordPosition.parse(event.bundle)
    if own is None:
        return [], []
    targets, digests = index.made(event.id), cache(digests)  # several resources are in one Bundle
    waiting = index.deliveries.waiting(own.partition, targets)
    held = frozenset(key for item in waiting for key in item.keys)
    return [_delivered(index, digests, own, resource, resource in held) for resource in targets], waiting


def _delivered(index: EventIndex, digests: Digests, own: RecordPosition, resource: str, waits: bool) -> Delivered:
    sent = index.deliveries.sent(resource, own.partition)
    if resource.partition("/")[0] in SHARED_TYPES:
        return _shared(digests, own, resource, sent)
    bundles = {own, *(item for item in _bundles(index, resource) if item.partition == own.partition)}
    newest = max(bundles)
    at = str(own._replace(offset=sent.offset)) if sent else ""
    if sent is None:
        return Delivered(resource, "", str(newest), False, "waits" if waits else "not delivered")
    if sent.digest == DELETED:
        return Delivered(resource, at, str(newest), True, "deleted there")
    if sent.offset < newest.offset and digests(str(newest)).get(resource) != sent.digest:
        state = "an older value was delivered; the newest one waits" if waits else "an older value was delivered"
        return Delivered(resource, at, str(newest), False, state)
    if own._replace(offset=sent.offset) not in bundles:  # a fill notes the partition's end, or zero
        return Delivered(resource, "", str(newest), True, "delivered by a fill, or with a Bundle that is not indexed")
    if sent.offset == own.offset:
        state = "delivered with this event's Bundle"
    elif sent.offset > own.offset:
        state = "delivered since, with a later event's value"
    else:
        state = "delivered before, with the same content"
    return Delivered(resource, at, str(newest), True, state)


def _shared(digests: Digests, own: RecordPosition, resource: str, sent: Sent | None) -> Delivered:
    """Tell whether a shared resource was delivered. It is sent as its own topic has it, not by Bundles."""
    if sent is None:
        return Delivered(resource, "", "", False, "not delivered")
    same = digests(str(own)).get(resource) == sent.digest
    return Delivered(resource, "", "", True, f"delivered, as {'this event has it' if same else 'its topic had it'}")


def _bundles(index: EventIndex, resource: str) -> Sequence[RecordPosition]:
    found = map(RecordPosition.parse, index.bundles_with(resource))
    return [position for position in found if position is not None]


@lru_cache(maxsize=2)
def _views(folder: Path | None, base: str) -> Mapping[str, View]:
    return load_views(*([folder] if folder else []), base=base)


def tables_of(settings: Settings, types: Sequence[str]) -> list[str]:
    """List the tables that have rows of resources of these types. Raises ConfigurationError for a wrong view."""
    views = _views(settings.tables_views, settings.base)
    return [name for name, view in views.items() if any(view.has_rows_of(type_) for type_ in types)]


def rows_of(settings: Settings, resource: Mapping[str, Any]) -> list[TableRows]:
    """Make the rows that a resource has in each table. Raises ConfigurationError for a wrong view."""
    found = []
    for view in _views(settings.tables_views, settings.base).values():
        if not view.has_rows_of(resource["resourceType"]):
            continue
        try:
            rows = view.rows(resource)
        except ViewFailed as error:
            found.append(TableRows(view.name, (), [], str(error)))
            continue
        filled = [number for number in range(len(view.columns)) if any(row[number] is not None for row in rows)]
        if rows:
            columns = tuple(view.columns[number].name for number in filled)
            found.append(
                TableRows(view.name, columns, [tuple(_cell(row[number]) for number in filled) for row in rows])
            )
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
