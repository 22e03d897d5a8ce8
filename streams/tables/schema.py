"""The schema of the tables: what exists, what was made by which definition, and what has to be rebuilt.

``_tables`` has the digest of the definition of each table. ``_state`` has one row: ``layout``, the version of the
internal tables; ``generation``, which rises with each change of a table, so that a process which knows other tables
notices it in its next transaction; ``kept_by``, the consumer group whose processes keep the tables; and ``erased``,
whether rows were deleted whose bytes a DuckDB file still has.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.built_in import BUILT_IN, EVENT, EVENT_COLUMNS, create_event_view
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.positions import POSITIONS, create_positions, read_positions
from fhirline.streams.tables.store import Store, quoted
from fhirline.streams.tables.table import Table

LAYOUT = 2
TABLES, STATE = "_tables", "_state"
WITHOUT_IDENTITIES = "_without_identities"
"""A table without rows, in schemas of tables without identities."""

_BESIDE = "_new_"
_LONGEST_NAME = 63
"""Characters of a name that PostgreSQL does not cut."""


@dataclass(frozen=True, slots=True)
class Known:
    """A table in the database: the type of its resources, its id column, and the digest of its definition.

    The digest is empty for a table that gets no rows any more, since its view was gone.
    """

    resource: str
    id_column: str
    digest: str


def beside(name: str) -> str:
    """Return the name of a table while it is being rebuilt. No two tables have the same, however long their names."""
    if len(_BESIDE + name) <= _LONGEST_NAME:
        return _BESIDE + name
    return _BESIDE + hashlib.sha256(name.encode()).hexdigest()[:40]


def drop_older(store: Store, without_identities: bool) -> list[str]:
    """Drop the tables where an older release made the internal ones; return their names.

    The topics have all but the rows of OperationOutcomes that are older than the retention of ``normalizer.outcome``.
    """
    if not exists(store, STATE) or _layout(store) >= LAYOUT:
        return []
    _require_kind(store, without_identities)
    names = [name for (name,) in store.rows(f"select name from {store.of(TABLES)} order by name")]
    with store.transaction():
        store.run(f"drop view if exists {store.of(EVENT)}")
        for name in (*names, TABLES, POSITIONS, STATE):
            store.run(f"drop table if exists {store.of(name)}")
    return names


def prepare(store: Store, without_identities: bool = False) -> None:
    """Create the schema and the internal tables where they are missing.

    Raises ConfigurationError where another release has made them, and where the schema is one of the other kind.
    """
    text = store.types["text"]
    if not store.has_schema():
        store.run(f"create schema if not exists {quoted(store.schema)}")
    if not exists(store, STATE):
        with store.transaction():
            store.run(
                f"create table {store.of(TABLES)} (name {text} primary key, resource {text} not null, "
                f"id_column {text} not null, digest {text} not null)"
            )
            store.run(f"comment on table {store.of(TABLES)} is 'Which definition made each table; internal'")
            create_positions(store)
            store.run(
                f"create table {store.of(STATE)} (layout integer not null, generation bigint not null, "
                f"kept_by {text} not null, erased boolean not null)"
            )
            store.run(f"comment on table {store.of(STATE)} is 'What is known of the tables as a whole; internal'")
            store.run(f"insert into {store.of(STATE)} values ({LAYOUT}, 0, '', false)")
            if without_identities and not exists(store, WITHOUT_IDENTITIES):
                store.run(f"create table {store.of(WITHOUT_IDENTITIES)} (since timestamptz not null)")
                store.run(f"comment on table {store.of(WITHOUT_IDENTITIES)} is 'Marks the schema; internal'")
    if (layout := _layout(store)) != LAYOUT:
        newer = "use the release that made it, or another schema"
        raise ConfigurationError(
            f"FHIRLINE_TABLES_URL: schema {store.schema} has layout {layout}, this release {LAYOUT}: "
            f"{newer if layout > LAYOUT else 'start `fhirline tables`, which makes all tables anew'}"
        )
    _require_kind(store, without_identities)
    _renew_event_view(store)


def _layout(store: Store) -> int:
    return int(_state(store, "layout"))


def _state(store: Store, column: str) -> Any:
    """Return what is known of the tables as a whole. Raises ConfigurationError where somebody has deleted it."""
    found = store.rows(f"select {column} from {store.of(STATE)}")
    if len(found) != 1:
        row = f"{LAYOUT}, 0, '', true"
        raise ConfigurationError(
            f"FHIRLINE_TABLES_URL: {store.name}: {store.of(STATE)} has {len(found)} rows, and must have one: somebody "
            f"has changed it. No table has changed; `delete from {store.of(STATE)}` and "
            f"`insert into {store.of(STATE)} values ({row})` make it again"
        )
    return found[0][0]


def _require_kind(store: Store, without_identities: bool) -> None:
    """Raise ConfigurationError where the schema has tables of the other kind, with or without identities.

    Those who may read tables without identities must never find others there.
    """
    if exists(store, WITHOUT_IDENTITIES) != without_identities:
        kind = "with" if without_identities else "without"
        raise ConfigurationError(
            f"FHIRLINE_TABLES_URL: schema {store.schema} has tables {kind} identities: name another schema, by "
            "FHIRLINE_TABLES_SCHEMA, or by FHIRLINE_RESEARCH_SCHEMA for those without identities"
        )


def exists(store: Store, name: str) -> bool:
    found = store.rows(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?", [store.schema, name]
    )
    return bool(found)


def known_tables(store: Store) -> dict[str, Known]:
    found = store.rows(f"select name, resource, id_column, digest from {store.of(TABLES)}")
    return {name: Known(*rest) for name, *rest in found}


def generation(store: Store) -> int:
    return int(_state(store, "generation"))


def kept_by(store: Store) -> str:
    """Return the consumer group that was the last to begin to keep the tables; empty for none."""
    return str(_state(store, "kept_by"))


def note_kept_by(store: Store, group: str) -> None:
    store.run(f"update {store.of(STATE)} set kept_by = ? where kept_by <> ?", [group, group])


def is_erased(store: Store) -> bool:
    return bool(_state(store, "erased"))


def note_erased(store: Store, erased: bool) -> None:
    store.run(f"update {store.of(STATE)} set erased = ? where erased <> ?", [erased, erased])


@dataclass(frozen=True, slots=True)
class Plan:
    """The tables that are ``missing``, those of another definition (``changed``), and those of no view (``gone``).

    ``altered``: those that somebody else has dropped, or whose columns somebody else has dropped or given other types.
    """

    missing: tuple[Table, ...]
    changed: tuple[Table, ...]
    altered: tuple[Table, ...]
    gone: dict[str, Known]


def plan(store: Store, catalog: Catalog) -> Plan:
    known, wanted = known_tables(store), catalog.tables
    ours = [table for table in wanted.values() if table.name in known]
    same = [table for table in ours if known[table.name].digest == table.digest]
    return Plan(
        tuple(table for table in wanted.values() if table.name not in known),
        tuple(table for table in ours if table not in same),
        tuple(table for table in same if not is_whole(store, table)),
        {name: found for name, found in known.items() if name not in wanted},
    )


def is_whole(store: Store, table: Table) -> bool:
    """Tell whether the database has a table with all its columns. Further ones do no harm."""
    had = columns_of(store, table.name)
    return all(had.get(column.name) == store.catalog_type(column) for column in table.columns)


def columns_of(store: Store, name: str) -> dict[str, str]:
    """Return the columns of a table with their types; none where there is no such table."""
    found = store.rows(
        "select column_name, data_type from information_schema.columns where table_schema = ? and table_name = ?",
        [store.schema, name],
    )
    return {column: type.lower() for column, type in found}


def create_tables(store: Store, tables: Iterable[Table]) -> bool:
    """Create empty tables, in one transaction. Return False where another process has committed records meanwhile."""
    with store.transaction():
        store.lock_positions()
        if read_positions(store):
            return False
        for table in tables:
            store.create(table, table.name)
            store.create_indexes(table, table.name)
            store.comment(table)
            _note(store, table)
        _renew_event_view(store)
        rise(store)
    return True


def replace(store: Store, tables: Iterable[Table]) -> None:
    """Put the tables that were rebuilt beside the live ones into their places, within a transaction."""
    tables = tuple(tables)
    event_access: list[str] | None = None
    if any(table in BUILT_IN for table in tables):
        event_access = store.access(EVENT, [*EVENT_COLUMNS]) if exists(store, EVENT) else None
        store.run(f"drop view if exists {store.of(EVENT)}")
    for table in tables:
        names = [column.name for column in table.columns]
        access = store.access(table.name, names) if exists(store, table.name) else None
        store.run(f"drop table if exists {store.of(table.name)}")
        store.run(f"alter table {store.of(beside(table.name))} rename to {quoted(table.name)}")
        if access is not None:
            store.give_access(table.name, access)
        store.comment(table)
        _note(store, table)
    _renew_event_view(store)
    if event_access is not None and exists(store, EVENT):
        store.give_access(EVENT, event_access)
    rise(store)


def forget_dropped(store: Store, names: Iterable[str]) -> None:
    """Remove tables that somebody has dropped from the list of known ones, where their views are gone."""
    dropped = [name for name in names if not exists(store, name)]
    if dropped:
        drop_tables(store, dropped)


def drop_tables(store: Store, names: Iterable[str]) -> None:
    """Drop tables of views that are gone, in one transaction."""
    with store.transaction():
        for name in names:
            store.run(f"drop table if exists {store.of(name)}")
            store.run(f"delete from {store.of(TABLES)} where name = ?", [name])
        rise(store)


def mark_gone(store: Store, names: Iterable[str]) -> None:
    """Clear the digests of tables whose views are gone, since they get no rows any more.

    A view that comes back is then rebuilt, and a process that has the view still ends.
    """
    with store.transaction():
        forgotten = [
            store.run(f"update {store.of(TABLES)} set digest = '' where name = ? and digest <> ''", [name])
            for name in names
        ]
        if any(forgotten):
            rise(store)


def rise(store: Store) -> None:
    """Raise the generation, within a transaction."""
    store.run(f"update {store.of(STATE)} set generation = generation + 1")


def _note(store: Store, table: Table) -> None:
    store.run(f"delete from {store.of(TABLES)} where name = ?", [table.name])
    store.run(
        f"insert into {store.of(TABLES)} values (?, ?, ?, ?)",
        [table.name, table.resource, table.id_column, table.digest],
    )


def _renew_event_view(store: Store) -> None:
    if all(is_whole(store, table) for table in BUILT_IN) and not exists(store, EVENT):
        create_event_view(store)
