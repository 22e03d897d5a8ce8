"""The changes that records make in tables. Pure: no Kafka client, no database.

A record's key names a resource, and the newest record of a key holds all of it. So the changes of a batch are, for each
table of the resource's type: the ids whose rows are deleted, and the rows that replace them. A tombstone has an id and
no rows. Records that are read again change nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.tables.built_in import EVENT_FLAG, RECORD, flag_rows, header_values, record_row
from fhirline.streams.tables.catalog import OUTCOMES, Catalog, Source
from fhirline.streams.tables.table import Table, without_nul
from fhirline.streams.tables.views.view import Row, ViewFailed
from fhirline.topics.declared import OUTCOME

LONGEST_KEY = 800
"""Bytes of a record's key. Those of FHIR resources have a hundred at most."""

_OR = "; where it is the resource that is wrong: docs/warehouse.md, A resource that a view does not fit"


class UnfitRows(FhirlineError):
    """A view cannot make the rows of a resource, or makes two with the same key. The view must be corrected."""


@dataclass(slots=True)
class Change:
    """The changes of one table: the rows of ``ids`` are deleted, then ``rows`` are inserted."""

    table: Table
    ids: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """The changes of a batch. ``removed``: type → ids of tombstones, as rows have them.

    ``unreadable``: records that are no resource, or whose key is not one of their topic.
    """

    changes: dict[str, Change] = field(default_factory=dict)
    removed: dict[str, list[str]] = field(default_factory=dict)
    records: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(change.rows) for change in self.changes.values())


def collect(records: Iterable[ConsumerRecord], catalog: Catalog) -> Batch:
    """Collect the changes that records make, in their order. Raises UnfitRows."""
    batch, newest = Batch(), dict[str, ConsumerRecord]()
    for record in records:
        batch.records += 1
        if (key := _key(record)) is not None:
            newest[key] = record
        elif record.value is not None:
            batch.unreadable.append(str(record.position))
    for key, record in newest.items():
        resource_type, _, id = key.partition("/")
        resource = None if record.value is None else _resource(record.value, resource_type, id)
        row_id = catalog.row_id(id)
        if record.value is None:
            batch.removed.setdefault(resource_type, []).append(row_id)
        elif resource is None:
            batch.unreadable.append(str(record.position))
        for source in catalog.of_type(resource_type):
            change = batch.changes.get(source.table.name)
            if change is None:
                change = batch.changes[source.table.name] = Change(source.table)
            change.ids.append(row_id)
            if resource is not None:
                change.rows += _rows(source, resource, record)
        _built_in(batch, catalog, record, resource_type, id, resource)
    return batch


def _built_in(
    batch: Batch, catalog: Catalog, record: ConsumerRecord, resource_type: str, id: str, resource: Any
) -> None:
    key = f"{resource_type}/{id}"
    named = header_values(record)
    for table in catalog.built_in:
        change = batch.changes.get(table.name)
        if change is None:
            change = batch.changes[table.name] = Change(table)
        change.ids.append(key)
        if record.value is not None and table is RECORD:
            change.rows.append(record_row(record, resource_type, id, named))
        elif resource is not None and table is EVENT_FLAG:
            change.rows += flag_rows(key, resource, catalog.flag_system, named)


def _key(record: ConsumerRecord) -> str | None:
    """Return the key of a record; None where it is of another type than the topic, or longer than an index takes.

    Rows are found by their keys: two records of one key, which other producers write to two topics, would replace each
    other's rows.
    """
    if record.key is None or len(record.key) > LONGEST_KEY:
        return None
    key = without_nul(record.key.decode("utf-8", "replace"))
    wanted = OUTCOMES if record.topic.endswith(OUTCOME) else record.topic.rpartition(".")[2]
    return key if key.partition("/")[0] == wanted else None


def _resource(value: bytes, resource_type: str, id: str) -> dict[str, Any] | None:
    """Read a resource; None where the value is none, or another one than its key says."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or found.get("resourceType") != resource_type or found.get("id") != id:
        return None
    return found


def _rows(source: Source, resource: dict[str, Any], record: ConsumerRecord) -> list[Row]:
    try:
        rows = source.convert(source.rows(resource))
    except ViewFailed as error:
        raise UnfitRows(f"{error} (the resource at {record.position}){_OR}") from None
    except (TypeError, ValueError, ArithmeticError) as error:  # a value of another type than the column's
        raise UnfitRows(
            f"view {source.table.name}: {type(error).__name__} with the resource at {record.position}: try "
            f"`fhirline tables views --explain {source.table.name} FILE` with it, and correct the view{_OR}"
        ) from None
    if not source.fits_key(rows):
        raise UnfitRows(
            f"view {source.table.name}: rows of the resource at {record.position} have the same "
            f"{', '.join(source.table.key)}, or none: correct the key of the view{_OR}"
        )
    return rows
