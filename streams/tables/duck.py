"""DuckDB: a database in one file, for a demo, tests and one analyst. Rows are loaded as Arrow tables.

Only one process at a time can open a file that is written. Deleted bytes stay in the file until it is rewritten.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import FILE_MODE, private_folder
from fhirline.streams.tables.built_in import EVENT, comment_event_view
from fhirline.streams.tables.column_types import DUCKDB, INSTANT, arrow_types, kind_of
from fhirline.streams.tables.store import Store, StoreUnavailable, column_names, literal, rebuild_remedy
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Row

_ARROW = {**arrow_types(), INSTANT: pa.string()}  # DuckDB reads RFC 3339
REWRITTEN = ".rewritten"
NO_SPACE = "No space left on device"


class DuckStore(Store):
    """A DuckDB file, readable by its owner only."""

    types: ClassVar = DUCKDB

    def __init__(self, path: Path, schema: str, read_only: bool = False) -> None:
        super().__init__(schema)
        if path.stem == schema:
            raise ConfigurationError(
                f"FHIRLINE_TABLES_URL: duckdb:{path}: DuckDB calls a file's tables by its name, which is that of the "
                f"schema {schema} here; give the file another name"
            )
        self._path = path
        self._read_only = read_only
        self._connection = self._connected()

    @property
    def name(self) -> str:
        return f"duckdb:{self._path}"

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._errors():
            return self._connection.execute(statement, list(parameters)).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with self._errors():
            changed = self._connection.execute(statement, list(parameters)).fetchone()
        return int(changed[0]) if changed and isinstance(changed[0], int) else 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.run("begin")
        try:
            yield
            self.run("commit")
        except BaseException:
            with suppress(duckdb.Error):  # none is active where the commit failed
                self._connection.execute("rollback")
            raise

    def insert(self, table: Table, rows: Sequence[Row], name: str | None = None) -> None:
        if not rows:
            return
        arrays, types = [], []
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
            kind = _ARROW[kind_of(column)]
            arrays.append(pa.array(values, pa.list_(kind) if column.collection else kind))
            types.append(self.type_of(column))
        names = [f"c{number}" for number in range(len(arrays))]
        self._connection.register("loaded", pa.table(arrays, names=names))
        try:
            cast = ", ".join(f"cast({source} as {type})" for source, type in zip(names, types, strict=True))
            with self._errors(f"table {table.name}"):
                into = f"{self.of(name or table.name)} ({column_names(table)})"
                self._connection.execute(f"insert into {into} select {cast} from loaded")
        finally:
            with suppress(duckdb.Error):  # refused where the transaction has failed; the next `register` replaces it
                self._connection.unregister("loaded")

    def has_schema(self) -> bool:
        return bool(self.rows("select 1 from duckdb_schemas() where schema_name = ? and not internal", [self.schema]))

    def lock_positions(self) -> None:
        """Do nothing: no other process can open the file."""

    def create_indexes(self, table: Table, name: str) -> None:
        """Create none: DuckDB reads columns, and skips blocks by their least and greatest value."""

    def reconnect(self) -> None:
        with suppress(duckdb.Error):
            self._connection.close()
        self._connection = self._connected()

    def close(self) -> None:
        """Close the file, whose journal is then part of it."""
        with suppress(duckdb.Error):
            self._connection.close()

    def erase_deleted_bytes(self) -> None:
        """Write the file anew, without the bytes of deleted rows, and put it into the place of the old one.

        A process that ends meanwhile leaves the old file as it was, and a part of the new one, which is replaced the
        next time.
        """
        part = self._path.with_name(self._path.name + REWRITTEN)
        self.run("checkpoint")
        self.close()
        for leftover in (part, _journal(part)):
            leftover.unlink(missing_ok=True)
        with self._errors(), duckdb.connect() as copying:
            copying.execute(f"attach {literal(str(self._path))} as old (read_only)")
            copying.execute(f"attach {literal(str(part))} as new")
            os.chmod(part, FILE_MODE)
            copying.execute("copy from database old to new")
            copying.execute("checkpoint new")
            copying.execute("detach new")
            copying.execute("detach old")
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, self._path)
        _journal(self._path).unlink(missing_ok=True)
        self._connection = self._connected()
        if self.rows(
            "select 1 from information_schema.tables where table_schema = ? and table_name = ?", [self.schema, EVENT]
        ):
            comment_event_view(self)  # DuckDB copies the comments of tables, and none of views

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._read_only:
            if not self._path.exists():
                raise ConfigurationError(f"FHIRLINE_TABLES_URL: {self._path}: no such file: start `fhirline tables`")
            with self._errors():
                return duckdb.connect(str(self._path), read_only=True)
        try:
            private_folder(self._path.parent)
        except OSError as error:
            raise ConfigurationError(f"FHIRLINE_TABLES_URL: {self._path.parent}: {error.strerror}") from None
        new = not self._path.exists()
        with self._errors():
            connection = duckdb.connect(str(self._path), config={"threads": 1})
        if new:
            os.chmod(self._path, FILE_MODE)
        return connection

    @contextmanager
    def _errors(self, what: str = "") -> Iterator[None]:
        """Turn DuckDB's errors into ours. Their texts may quote values of rows, so that only their kind is shown."""
        try:
            yield
        except (duckdb.TransactionException, duckdb.FatalException) as error:  # a commit that could not be written
            raise StoreUnavailable(f"{self.name}: {_reason(error)}") from None
        except duckdb.IOException as error:
            if "lock" in str(error):
                raise ConfigurationError(
                    f"FHIRLINE_TABLES_URL: {self.name} is open in another process: a DuckDB file that is written can "
                    "be opened once only; end the other process"
                ) from None
            if "not a valid DuckDB database" in str(error):
                raise ConfigurationError(f"FHIRLINE_TABLES_URL: {self._path} is no DuckDB database file") from None
            raise StoreUnavailable(f"{self.name}: {_reason(error)}") from None
        except duckdb.Error as error:
            raise ConfigurationError(
                f"FHIRLINE_TABLES_URL: {self.name}: {f'{what}: ' if what else ''}{type(error).__name__}"
                f"{rebuild_remedy(what)}"
            ) from None


def _reason(error: duckdb.Error) -> str:
    return f"{type(error).__name__}{', the disk is full' if NO_SPACE in str(error) else ''}"


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
