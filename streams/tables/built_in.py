"""The tables that no ViewDefinition makes, since they are about records: ``record``, ``event_flag``, and ``event``.

``event`` is a view of the database over the other two, so that it cannot disagree with them. It joins the two sources
of an event's quality flags: tags of the resources that the event was the last to change, and the issues of its
OperationOutcome.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fhirline.streams.kafka.headers import (
    EVENT_KEY,
    EVENT_TYPE,
    MAPPING_VERSION,
    OCCURRED_AT,
    RAW,
    TABLES_VERSION,
    TENANT,
    VENDOR,
)
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.tables.instants import is_instant
from fhirline.streams.tables.store import Store, literal
from fhirline.streams.tables.table import Table, without_nul
from fhirline.streams.tables.views.view import ANY_RESOURCE, Column, Row

_HEADERS = (VENDOR, TENANT, EVENT_TYPE, EVENT_KEY, RAW, MAPPING_VERSION, TABLES_VERSION, OCCURRED_AT)

LONGEST_HEADER = 600
"""Bytes of a header's value that are read."""

RECORD = Table(
    "record",
    ANY_RESOURCE,
    (
        Column("record_key", "string", description="key of the record: type and id of the resource"),
        Column("resource_type", "code", description="type of the resource"),
        Column("resource_id", "id", description="id of the resource: resource_id of its rows in the other tables"),
        Column("topic", "string", description="topic of the record"),
        Column("partition", "integer", description="partition of the record"),
        Column("record_offset", "integer", description="offset of the record"),
        Column("written_at", "instant", description="when the record was written to the topic"),
        Column("vendor", "code", description="vendor of the event that wrote it"),
        Column("tenant", "code", description="tenant of the vendor"),
        Column("event_type", "code", description="type of the event"),
        Column("event_key", "string", description="SHA-256 of the event's redacted body: names the event"),
        Column("raw", "string", description="topic/partition/offset of the raw record with the event"),
        Column("mapping_version", "string", description="version of the mapping that made it"),
        Column("tables_version", "string", description="digest of the code tables that it was made with"),
        Column("occurred_at", "instant", description="time of the event, by which versions are compared"),
    ),
    ("record_key",),
    "The latest record of each key: where it is on its topic, and the event that wrote it",
    "record-1",
    indexes=(("event_key",), ("resource_id",)),
)

EVENT_FLAG = Table(
    "event_flag",
    ANY_RESOURCE,
    (
        Column("record_key", "string", description="key of the record that has the flag"),
        Column("ordinal", "integer", description="number of the flag in its resource, from 1"),
        Column(
            "source", "code", description="tag: a tag of a resource; issue: an issue of the event's OperationOutcome"
        ),
        Column("vendor", "code", description="vendor of the event"),
        Column("tenant", "code", description="tenant of the vendor"),
        Column("event_key", "string", description="the event: the one that wrote the record"),
        Column("flag", "code", description="code of the flag; docs/conformance.md explains each"),
        Column("severity", "code", description="severity of an issue"),
        Column("places", "string", description="paths that an issue is about, one per line"),
    ),
    ("record_key", "ordinal"),
    "Data-quality flags of events, from both places that tell of them",
    "event_flag-1",
    indexes=(("event_key",),),
    references={"record_key": "record.record_key"},
)

BUILT_IN = (RECORD, EVENT_FLAG)

EVENT = "event"
EVENT_DESCRIPTION = "One row per event that was mapped or has flags: its time, latency, and flags from both places"
EVENT_COLUMNS = {
    "vendor": "vendor of the event",
    "tenant": "tenant of the vendor",
    "event_type": "type of the event",
    "event_key": "SHA-256 of the event's redacted body: names the event",
    "raw": "topic/partition/offset of the raw record with the event",
    "mapping_version": "version of the mapping that mapped it last",
    "occurred_at": "time of the event",
    "published_at": "when its Provenance, or without one its OperationOutcome, was written",
    "latency_seconds": "seconds from occurred_at to published_at; after a replay, to the replay",
    "mapped": "whether resources were made of it: it has a Provenance",
    "warnings": "flags whose severity is warning or error",
    "flags": "codes of all its flags, sorted, separated by blanks; null for none",
}


def create_event_view(store: Store) -> None:
    """Create the view ``event``, with its comments. It must not exist."""
    query = event_query(store.of(RECORD.name), store.of(EVENT_FLAG.name))
    store.run(f"create view {store.of(EVENT)} as {query}")
    comment_event_view(store)


def event_query(record: str, flag: str) -> str:
    """Return the query of ``event`` over the tables ``record`` and ``event_flag``, by their names in the database."""
    return f"""
        with told as (
            select r.*, row_number() over (
                partition by r.vendor, r.tenant, r.event_key order by r.resource_type desc, r.record_key
            ) as choice
            from {record} r
            where r.resource_type in ('Provenance', 'OperationOutcome') and r.event_key is not null
        ), flagged as (
            select vendor, tenant, event_key, string_agg(distinct flag, ' ' order by flag) as flags,
                count(distinct flag) filter (where severity in ('warning', 'error', 'fatal')) as warnings
            from {flag} group by vendor, tenant, event_key
        )
        select t.vendor, t.tenant, t.event_type, t.event_key, t.raw, t.mapping_version, t.occurred_at,
            t.written_at as published_at,
            cast(extract(epoch from t.written_at) - extract(epoch from t.occurred_at) as double precision)
                as latency_seconds,
            t.resource_type = 'Provenance' as mapped, coalesce(f.warnings, 0) as warnings, f.flags
        from told t left join flagged f
            on f.event_key = t.event_key and f.vendor = t.vendor and f.tenant = t.tenant
        where t.choice = 1
        """


def comment_event_view(store: Store) -> None:
    store.run(f"comment on view {store.of(EVENT)} is {literal(EVENT_DESCRIPTION)}")
    for column, description in EVENT_COLUMNS.items():
        store.comment_column(EVENT, column, description)


def record_row(record: ConsumerRecord, resource_type: str, resource_id: str, named: Mapping[str, str]) -> Row:
    """Make the row of ``record``. ``named``: the values of its headers."""
    written = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat() if record.timestamp_ms else None
    key = f"{resource_type}/{resource_id}"
    occurred = named.get(OCCURRED_AT)
    return (
        *(key, resource_type, resource_id, record.topic, record.partition, record.offset, written),
        *(named.get(name) for name in _HEADERS[:-1]),
        occurred if occurred is not None and is_instant(occurred) else None,
    )


def flag_rows(key: str, resource: Mapping[str, Any], system: str, named: Mapping[str, str]) -> list[Row]:
    """Make the rows of ``event_flag``. ``system``: of the codes of flags. ``named``: the values of its headers."""
    found = [*_flags(resource, system)]
    if not found:
        return []
    event = tuple(named.get(name) for name in (VENDOR, TENANT, EVENT_KEY))
    return [
        (key, number, source, *event, flag, severity, places)
        for number, (source, flag, severity, places) in enumerate(found, 1)
    ]


def _flags(resource: Mapping[str, Any], system: str) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Find the flags of a resource, whatever its shape: foreign producers may write resources that are not valid."""
    if resource.get("resourceType") == "OperationOutcome":
        for issue in _objects(resource.get("issue")):
            details = issue.get("details")
            for coding in _objects(details.get("coding") if isinstance(details, dict) else None):
                if (flag := _flag(coding, system)) is not None:
                    places = "\n".join(_texts(issue.get("expression"))) or None
                    yield "issue", flag, next(_texts([issue.get("severity")]), None), places
        return
    meta = resource.get("meta")
    for tag in _objects(meta.get("tag") if isinstance(meta, dict) else None):
        if (flag := _flag(tag, system)) is not None:
            yield "tag", flag, None, None


def _flag(coding: Mapping[str, Any], system: str) -> str | None:
    code = coding.get("code")
    return without_nul(code) if coding.get("system") == system and isinstance(code, str) and code else None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _texts(value: Any) -> Iterator[str]:
    return (without_nul(item) for item in value if isinstance(item, str)) if isinstance(value, list) else iter(())


def header_values(record: ConsumerRecord) -> dict[str, str]:
    """Return the headers as texts. One that is longer than any of ours is cut, since an index does not take it."""
    return {name: without_nul(value[:LONGEST_HEADER].decode("utf-8", "replace")) for name, value in record.headers}
