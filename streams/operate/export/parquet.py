"""Parquet: a folder for each view, in it one for each vendor (``source_vendor=…``), in it a file per topic partition.

The folders' names are those that DuckDB, Polars, pandas and Spark read as a column.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fhirline.config.private_files import FILE_MODE, private_folder
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.tables.batch import collect
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.column_types import INSTANT, arrow_types, kind_of
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Row

ROWS = 10_000
"""Rows of a row group, and records that are turned into rows at once."""

_ARROW = arrow_types()


class ParquetFiles:
    """The Parquet files of one topic partition: complete after `finish`, and not there before."""

    def __init__(self, folder: Path, catalog: Catalog, stem: str) -> None:
        self._folder = folder
        self._catalog = catalog
        self._stem = stem
        self._records: dict[str, list[ConsumerRecord]] = {}
        self._writers: dict[str, _Writer] = {}

    def add(self, record: ConsumerRecord) -> None:
        """Take a record. Raises UnfitRows."""
        vendor = header(record.headers, "vendor")
        if vendor not in VENDORS:  # another producer's: it must not name a folder
            vendor = "unknown"
        records = self._records.setdefault(vendor, [])
        records.append(record)
        if len(records) >= ROWS:
            self._write(vendor)

    def finish(self) -> dict[str, int]:
        """Put the files into their places. Return the rows of each."""
        for vendor in self._records:
            self._write(vendor)
        return {name: writer.finish() for name, writer in self._writers.items()}

    def abandon(self) -> None:
        """Remove files that were not finished."""
        for writer in self._writers.values():
            writer.abandon()

    def _write(self, vendor: str) -> None:
        records = self._records[vendor]
        for change in collect(records, self._catalog).changes.values():
            if not change.rows:
                continue
            name = f"{change.table.name}/source_vendor={vendor}/{self._stem}.parquet"
            writer = self._writers.get(name)
            if writer is None:
                writer = self._writers[name] = _Writer(self._folder / name, change.table)
            writer.add(change.rows)
        records.clear()


class _Writer:
    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._table = table
        self._schema = schema_of(table)
        self._rows = 0
        private_folder(path.parent)
        self._writer = pq.ParquetWriter(self._part, self._schema, compression="zstd")
        os.chmod(self._part, FILE_MODE)

    def add(self, rows: list[Row]) -> None:
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            self._writer.write_table(pa.Table.from_arrays(list(self._arrays(some)), schema=self._schema))
        self._rows += len(rows)

    def finish(self) -> int:
        self._writer.close()
        with self._part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(self._part, self._path)
        return self._rows

    def abandon(self) -> None:
        if self._part.exists():
            self._writer.close()
            self._part.unlink()

    def _arrays(self, rows: list[Row]) -> Iterable[Any]:
        for column, field, values in zip(self._table.columns, self._schema, zip(*rows, strict=True), strict=True):
            is_time = kind_of(column) == INSTANT
            yield pa.array([_instants(value) for value in values] if is_time else values, field.type)


def schema_of(table: Table) -> Any:
    """Return the Arrow schema of a table's files, with the descriptions of its columns."""
    fields = []
    for column in table.columns:
        kind = _ARROW[kind_of(column)]
        described = {"description": column.description}
        fields.append(pa.field(column.name, pa.list_(kind) if column.collection else kind, metadata=described))
    return pa.schema(fields, metadata={"description": table.description})


def _instants(value: Any) -> Any:
    if isinstance(value, list):
        return [_instants(item) for item in value]
    return datetime.fromisoformat(value) if isinstance(value, str) else value
