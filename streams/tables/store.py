"""A database that holds the tables: one small interface, and the statements that all databases share.

A store has one caller at a time. Databases differ in how rows are loaded, in the names of types, and in their errors.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.streams.tables.column_types import kind_of
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Column, Row


class StoreUnavailable(FhirlineError):
    """The database does not answer, or could not finish a transaction. Nothing is known of what it committed."""


class ValueTooLong(ConfigurationError):
    """A value is longer than an index takes; the transaction was rolled back. Without the index it can be repeated.

    For a key, which every table needs, the message says what to do.
    """

    def __init__(self, message: str, name: str = "", columns: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        """Name of the table in the database; empty where it is not known."""
        self.columns = columns


class Stopped(FhirlineError):
    """The process ends. What it was waiting for or rebuilding is as it was."""


class OtherWriter(FhirlineError):
    """Another process moved the positions, or changed the tables. This one has written nothing since."""


class PositionsMoved(OtherWriter):
    """A position is not where this process left it. In a consumer group: the partition is another process's now."""


class RowConflict(ConfigurationError):
    """Rows have the key of other rows, maybe of those that another process is writing. The transaction is repeated."""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def column_names(table: Table) -> str:
    """Write the names of the columns in the order of the rows. The database's table may have another order."""
    return ", ".join(quoted(column.name) for column in table.columns)


def rebuild_remedy(what: str) -> str:
    """Return the remedy for an error of a table; empty without one. ``what``: ``table NAME``, or empty."""
    name = what.removeprefix("table ")
    return f"; where somebody has altered the table, `fhirline tables rebuild {name}` makes it anew" if name else ""


class Store(ABC):
    """An open database. ``schema`` is where all tables are. Statements have ``?`` for each parameter.

    Raises StoreUnavailable where the database does not answer, and ConfigurationError where it refuses.
    """

    types: ClassVar[Mapping[str, str]]
    """Kind of a column → the database's type."""

    shared: ClassVar[bool] = False
    """True where several processes may keep tables in the database together."""

    def __init__(self, schema: str) -> None:
        self.schema = schema

    # -- what each database does in its own way

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the address of the database, for logs: never with a password."""

    @abstractmethod
    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return its rows."""

    @abstractmethod
    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Commit what runs within the context, or nothing of it where an exception leaves it."""

    @abstractmethod
    def insert(self, table: Table, rows: Sequence[Row], name: str | None = None) -> None:
        """Load rows. ``name``: of the table in the database, where it is not yet that of ``table``."""

    @abstractmethod
    def has_schema(self) -> bool: ...

    @abstractmethod
    def lock_positions(self) -> None:
        """Keep other writers from moving positions until the transaction ends."""

    @abstractmethod
    def create_indexes(self, table: Table, name: str) -> None: ...

    def drop_indexes(self, too_long: ValueTooLong) -> None:
        """Drop the indexes that do not take a value. Raises ``too_long`` where it is a key that does not."""
        raise too_long

    def access(self, name: str, columns: Sequence[str]) -> list[str]:
        """Return the statements that give a replacement of a table, with these columns, the access rules that it has.

        There are none where the database has no roles.
        """
        return []

    def give_access(self, name: str, statements: Sequence[str]) -> None:
        """Give a new table the access rules of the one that it replaces, and no others."""
        for statement in statements:
            self.run(statement)

    @abstractmethod
    def erase_deleted_bytes(self) -> None:
        """Remove what deleted rows have left in the database's files, unless the database does so by itself."""

    @abstractmethod
    def reconnect(self) -> None:
        """Open the database again."""

    @abstractmethod
    def close(self) -> None: ...

    # -- what only shared databases need

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other processes from making, replacing and dropping tables within the context.

        False: another process does so now. One that ends, or loses the database, does so no longer.
        """
        yield True

    # -- what is the same

    def of(self, name: str) -> str:
        """Write the qualified name of a table."""
        return f"{quoted(self.schema)}.{quoted(name)}"

    def type_of(self, column: Column) -> str:
        return self.types[kind_of(column)] + ("[]" if column.collection else "")

    def catalog_type(self, column: Column) -> str:
        """Return the type of a column as the database's catalog names it, in small letters."""
        return self.type_of(column).replace("timestamptz", "timestamp with time zone")

    def delete(self, table: Table, ids: Collection[str], name: str | None = None) -> None:
        """Delete the rows of these resources."""
        self.delete_where(name or table.name, table.id_column, ids)

    def delete_where(self, name: str, column: str, ids: Collection[str]) -> None:
        self.run(
            f"delete from {self.of(name)} where {quoted(column)} in (select unnest(cast(? as {self.types['text']}[])))",
            [list(ids)],
        )

    def create(self, table: Table, name: str) -> None:
        """Create an empty table."""
        columns = [
            f"{quoted(column.name)} {self.type_of(column)}{' not null' if column.name in table.key else ''}"
            for column in table.columns
        ]
        if table.key:
            columns.append(f"primary key ({', '.join(map(quoted, table.key))})")
        self.run(f"create table {self.of(name)} ({', '.join(columns)})")

    def comment(self, table: Table) -> None:
        """Put the documentation of a table and its columns into the database."""
        self.run(f"comment on table {self.of(table.name)} is {literal(table.description)}")
        for column in table.columns:
            self.comment_column(table.name, column.name, described(table, column))

    def comment_column(self, name: str, column: str, text: str) -> None:
        self.run(f"comment on column {self.of(name)}.{quoted(column)} is {literal(text)}")


def described(table: Table, column: Column) -> str:
    """Describe a column, with the column of another table that it names."""
    target = table.references.get(column.name)
    return f"{column.description} (references {target})" if target else column.description
