"""PostgreSQL: rows are loaded by COPY (psycopg 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.access import kept_access, revoke_grants
from fhirline.streams.tables.column_types import POSTGRESQL
from fhirline.streams.tables.store import (
    RowConflict,
    Store,
    StoreUnavailable,
    ValueTooLong,
    column_names,
    quoted,
    rebuild_remedy,
)
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Column, Row

log = structlog.get_logger("tables")

CONNECT_SECONDS = 10

ALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Settings of TCP by which a database that vanished is noticed within a minute."""

SESSION = {
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "lock_timeout": "60s",
    "row_security": "off",
}
"""Settings of each connection. Without row security, PostgreSQL refuses what a policy would leave rows out of.

They end the transaction and the locks of a process that was paused or has vanished with its host. Who waits for a lock
gives up after a minute: a writer tries again, and a rebuild fails which waits for queries that read the old table.
"""

LONG = 600
"""Characters of a value that an index may not take: they are up to 2,400 bytes, and it takes 2,700."""

REFUSED = ("28", "3D", "42")
"""SQLSTATE classes that waiting does not resolve: authorization, no such database, privileges and definitions."""


class PostgresStore(Store):
    """A PostgreSQL database, in a schema of its own."""

    types: ClassVar = POSTGRESQL
    shared: ClassVar = True

    def __init__(self, url: str, password: Callable[[], str | None], schema: str) -> None:
        super().__init__(schema)
        self._url = url
        self._password = password
        self._connection = self._connected()

    @property
    def name(self) -> str:
        known = conninfo_to_dict(self._url)
        place = ":".join(str(known[part]) for part in ("host", "port") if known.get(part))
        return f"postgresql://{place}/{known.get('dbname') or ''}"

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._errors():
            return self._execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with self._errors():
            return self._execute(statement, parameters).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._errors(), self._connection.transaction():
            yield

    def insert(self, table: Table, rows: Sequence[Row], name: str | None = None) -> None:
        if not rows:
            return
        statement = f"copy {self.of(name or table.name)} ({column_names(table)}) from stdin"
        try:
            with (
                self._errors(f"table {table.name}"),
                self._connection.cursor() as cursor,
                cursor.copy(SQL(statement)) as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        except ValueTooLong as error:
            raise ValueTooLong(str(error), name or table.name, _long_columns(table, rows)) from None

    def catalog_type(self, column: Column) -> str:
        return "array" if column.collection else super().catalog_type(column)

    def has_schema(self) -> bool:
        return bool(self.rows("select 1 from pg_namespace where nspname = ?", [self.schema]))

    def lock_positions(self) -> None:
        # A lock of the table, not of its rows: taken first, it cannot be in a circle with transactions that move some.
        self.run(f"lock table {self.of('_positions')} in share row exclusive mode")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold an advisory lock, which belongs to the connection."""
        key = [f"fhirline tables {self.schema}"]
        [(locked,)] = self.rows("select pg_try_advisory_lock(hashtextextended(?, 0))", key)
        try:
            yield bool(locked)
        finally:
            if locked:
                with suppress(StoreUnavailable):  # without a connection there is no lock
                    self.rows("select pg_advisory_unlock(hashtextextended(?, 0))", key)

    def create_indexes(self, table: Table, name: str) -> None:
        wanted = [columns for columns in table.indexes if columns != table.key]
        if table.key[:1] != (table.id_column,):  # deleting a resource's rows must not read the whole table
            wanted.append((table.id_column,))
        for columns in dict.fromkeys(wanted):
            listed = ", ".join(map(quoted, columns))
            try:
                self.run(f"create index on {self.of(name)} ({listed})")
            except ValueTooLong:
                log.warning("no index: values are too long for it", table=table.name, columns=listed)

    def drop_indexes(self, too_long: ValueTooLong) -> None:
        found = too_long.name and self.rows(
            "select distinct cast(cast(i.indexrelid as regclass) as text) from pg_index i "
            "join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey) "
            "where i.indrelid = cast(? as regclass) and not i.indisprimary and a.attname = any(?)",
            [self.of(too_long.name), [*too_long.columns]],
        )
        if not found:
            raise too_long
        for (index,) in found:
            self.run(f"drop index if exists {index}")
            log.warning("index dropped: a value is too long for it", table=too_long.name, index=index)

    def access(self, name: str, columns: Sequence[str]) -> list[str]:
        return kept_access(self, name, columns)

    def give_access(self, name: str, statements: Sequence[str]) -> None:
        revoke_grants(self, name)
        for statement in statements:
            try:
                self.run(statement)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"{error}: the new table {name} cannot have a grant or policy of the old one, which is in its "
                    "place still: drop that one"
                ) from None

    def erase_deleted_bytes(self) -> None:
        """Do nothing: autovacuum reclaims the space of deleted rows (docs/warehouse.md, Erasure)."""

    def reconnect(self) -> None:
        self._connection.close()
        self._connection = self._connected()

    def close(self) -> None:
        self._connection.close()

    def _execute(self, statement: str, parameters: Sequence[Any]) -> "psycopg.Cursor[Row]":
        if not parameters:
            return self._connection.execute(SQL(statement))
        return self._connection.execute(SQL(statement.replace("?", "%s")), parameters)

    def _connected(self) -> "psycopg.Connection[Row]":
        own: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "fhirline-tables", **ALIVE}
        if (password := self._password()) is not None:
            own["password"] = password
        with self._errors():
            connection = psycopg.connect(self._url, autocommit=True, **own)
            # Not as `options` of the connection, which PgBouncer refuses. Those of the URL and of PGOPTIONS prevail.
            connection.execute(
                "select set_config(s.name, wanted.value, false) from pg_settings s "
                "join unnest(%s::text[], %s::text[]) as wanted(name, value) using (name) where s.source <> 'client'",
                [[*SESSION], [*SESSION.values()]],
            )
            return connection

    @contextmanager
    def _errors(self, what: str = "") -> Iterator[None]:
        """Turn the driver's errors into ours. Their details name values of rows, so that only the code is shown."""
        try:
            yield
        except psycopg.Error as error:
            state = error.sqlstate or ""
            reason = f"{type(error).__name__} ({state})" if state else str(error).strip().partition("\n")[0]
            if isinstance(error, psycopg.errors.InsufficientPrivilege):
                reason += f": {error.diag.message_primary}"  # it names tables and roles, never values
            elif isinstance(error, psycopg.errors.LockNotAvailable):
                reason += ": another session holds a lock on a table; pg_locks and pg_stat_activity tell which"
            shown = f"{self.name}: {f'{what}: ' if what else ''}{reason}"
            if isinstance(error, psycopg.errors.ProgramLimitExceeded):
                remedy = "a value is longer than the 2,700 bytes that a key takes: tag other columns as the view's key"
                raise ValueTooLong(f"FHIRLINE_TABLES_URL: {shown}; {remedy}") from None
            away = isinstance(error, (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout))
            if away and not _refused(error):
                raise StoreUnavailable(shown) from None
            kind = RowConflict if isinstance(error, psycopg.errors.UniqueViolation) else ConfigurationError
            raise kind(f"FHIRLINE_TABLES_URL: {shown}{_remedy(error, what)}") from None


def _long_columns(table: Table, rows: Sequence[Row]) -> list[str]:
    """Return the columns with a value that may be longer than an index takes."""
    return [
        column.name
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True)
        if any(isinstance(value, str | list) and len(str(value)) > LONG for value in values)
    ]


def _refused(error: psycopg.Error) -> bool:
    if error.sqlstate:
        return error.sqlstate[:2] in REFUSED
    text = str(error)  # a refused log-in has no code in libpq
    return any(
        part in text for part in ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password")
    )


def _remedy(error: psycopg.Error, what: str) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "; the privileges that it needs are in docs/warehouse.md"
    if isinstance(error, psycopg.errors.DependentObjectsStillExist):
        return (
            "; a view or policy of yours reads a table that is to be replaced: drop it, and create it again afterwards"
        )
    if isinstance(error, (psycopg.IntegrityError, psycopg.DataError)):
        return rebuild_remedy(what)
    return ""
