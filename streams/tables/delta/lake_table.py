"""A Delta table: its rows, and how far it has read each partition, move in one commit.

The invariant of `positions` holds for each table by itself: a commit carries the rows of a batch and, as Delta's
transaction identifiers (``txn`` actions), the positions behind it. A commit is tried at one version only, the one after
that which this process has read, and never rebased on what another one has committed meanwhile. So positions move only
from values that this process knows.

Nothing of a row reaches the table's log: no statistics of columns are kept there, and no predicate names a value. The
log outlives the files of deleted rows.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from deltalake.table import TableMerger

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables.column_types import INSTANT, arrow_types, kind_of
from fhirline.streams.tables.store import StoreUnavailable, described
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Column, Row

ARROW = arrow_types()
PROPERTIES = {
    "delta.dataSkippingNumIndexedCols": "0",  # statistics would keep names of erased patients in the log
    "delta.logRetentionDuration": "interval 7 days",
}
DELETED = "_deleted"
"""Column of what is merged: true for an id whose rows go, false for a row that comes."""

NONE = -1
"""Position of a partition of which nothing has been read."""

DEFINITION = "fhirline.definition"


class Conflict(FhirlineError):
    """Another process has committed to the table since this one read it. Nothing was written."""


def number_of(text: str) -> int:
    """Return 63 bits of a text's SHA-256: transaction identifiers have whole numbers only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def position_id(partition: TopicPartition) -> str:
    return f"fhirline.position/{partition.topic}/{partition.partition}"


def topic_id(topic: str) -> str:
    return f"fhirline.topic/{topic}"


def arrow_schema(table: Table) -> pa.Schema:
    """Return the columns with their descriptions, which Delta keeps as comments."""
    return pa.schema(
        [
            pa.field(
                column.name,
                pa.list_(ARROW[kind_of(column)]) if column.collection else ARROW[kind_of(column)],
                metadata={"comment": described(table, column)},
            )
            for column in table.columns
        ]
    )


class LakeTable:
    """An open Delta table. ``partitions``: those whose records have rows in it."""

    def __init__(self, delta: DeltaTable, table: Table, partitions: Iterable[TopicPartition]) -> None:
        self.delta = delta
        self.table = table
        self.partitions = frozenset(partitions)
        self.topics = frozenset(partition.topic for partition in self.partitions)
        self.positions = self.stored_positions()
        self._schema = arrow_schema(table)
        self._converters = [_converter(column) for column in table.columns]

    @property
    def is_current(self) -> bool:
        """Tell whether its rows were made by this definition of the table."""
        return self.delta.transaction_version(DEFINITION) == number_of(self.table.digest)

    def other_topics(self, ids: Mapping[str, str]) -> list[str]:
        """Return the topics that had another id when the table was written."""
        known = {topic: self.delta.transaction_version(topic_id(topic)) for topic in sorted(self.topics)}
        return [topic for topic, found in known.items() if found and ids.get(topic) and found != number_of(ids[topic])]

    def stored_positions(self) -> dict[TopicPartition, int]:
        found = {partition: self.delta.transaction_version(position_id(partition)) for partition in self.partitions}
        return {partition: offset for partition, offset in found.items() if offset is not None and offset != NONE}

    def age(self) -> float:
        """Return how many seconds ago the table was created."""
        return time.time() - self.delta.metadata().created_time / 1000

    def newest(self) -> "LakeTable":
        """Open the newest version of the table. This object stays at the version that it has read."""
        with errors(self.table.name):
            return LakeTable(DeltaTable(self.delta.table_uri), self.table, self.partitions)

    def commit(
        self, ids: Collection[str], rows: Sequence[Row], moves: Mapping[TopicPartition, int], topics: Mapping[str, str]
    ) -> None:
        """Replace the rows of these ids and move positions, in one commit. Raises Conflict and StoreUnavailable.

        ``topics``: the ids of topics, which are noted with the first position of each.
        """
        marks = self.marks(moves, topics)
        with errors(self.table.name):
            before = self.delta.version()
            if self.delta.file_uris():
                if ids or rows:
                    self._merge(ids, rows, marks)
                if self.delta.version() == before and marks.app_transactions:  # no row was there, none came
                    self._append((), marks)
            elif rows or marks.app_transactions:
                self._append(rows, marks)
        self.positions |= moves

    def marks(self, moves: Mapping[TopicPartition, int], topics: Mapping[str, str]) -> CommitProperties:
        """Return the positions and ids that a commit notes.

        The commit is tried once, at the version after the one that was read.
        """
        noted = [Transaction(position_id(partition), offset) for partition, offset in sorted(moves.items())]
        noted += [
            Transaction(topic_id(topic), number_of(id))
            for topic, id in topics.items()
            if id and any(partition.topic == topic and partition not in self.positions for partition in moves)
        ]
        return CommitProperties(app_transactions=noted, max_commit_retries=0)

    def _merge(self, ids: Collection[str], rows: Sequence[Row], marks: CommitProperties) -> None:
        gone = [(id, *[None] * (len(self._schema) - 1), True) for id in ids]
        columns = [*zip(*gone, *((*row, False) for row in self._converted(rows)), strict=True)]
        schema = self._schema.append(pa.field(DELETED, pa.bool_()))
        source = pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
        )
        work = self.delta.merge(
            source,
            f'held."{self.table.id_column}" = new."{self.table.id_column}" and new."{DELETED}"',
            source_alias="new",
            target_alias="held",
            commit_properties=marks,
        )
        values = {f'"{name}"': f'new."{name}"' for name in self._schema.names}
        work.when_matched_delete().when_not_matched_insert(values, predicate=f'not new."{DELETED}"').execute()

    def _append(self, rows: Sequence[Row], marks: CommitProperties) -> None:
        columns = [*zip(*self._converted(rows), strict=True)] or [()] * len(self._schema)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        write_deltalake(
            self.delta, pa.Table.from_arrays(arrays, schema=self._schema), mode="append", commit_properties=marks
        )

    def _converted(self, rows: Sequence[Row]) -> Iterator[Sequence[object]]:
        for row in rows:
            yield [
                value if convert is None or value is None else convert(value)
                for convert, value in zip(self._converters, row, strict=True)
            ]


def _converter(column: Column) -> Callable[[Any], object] | None:
    """Return the function that converts a value of a column to Arrow's; None where none is needed."""
    if kind_of(column) != INSTANT:
        return None
    moment = datetime.fromisoformat
    return (lambda values: [moment(value) for value in values]) if column.collection else moment


def created(path: Path, table: Table, partitions: Iterable[TopicPartition]) -> LakeTable:
    """Create an empty table, which has read nothing."""
    with errors(table.name):
        delta = DeltaTable.create(
            path,
            arrow_schema(table),
            name=table.name,
            description=table.description,
            configuration=PROPERTIES,
            commit_properties=CommitProperties(
                app_transactions=[Transaction(DEFINITION, number_of(table.digest))], max_commit_retries=0
            ),
        )
        return LakeTable(delta, table, partitions)


def opened(path: Path, table: Table, partitions: Iterable[TopicPartition]) -> LakeTable | None:
    """Open a table; None where there is none."""
    with errors(table.name):
        try:
            return LakeTable(DeltaTable(path), table, partitions)
        except TableNotFoundError:
            return None


def delete_rows(delta: DeltaTable, ids: Sequence[str]) -> None:
    """Delete the rows of these resources from a table that nobody writes any more. Its first column is the id."""
    with errors(str(delta.metadata().name)):
        _merged(delta, pa.array(ids, pa.string())).when_matched_delete().execute()


def delete_other_rows(delta: DeltaTable, ids: pa.ChunkedArray) -> None:
    """Delete the rows of all but these resources from a table that nobody writes any more."""
    with errors(str(delta.metadata().name)):
        _merged(delta, ids.cast(pa.string())).when_not_matched_by_source_delete().execute()


def _merged(delta: DeltaTable, ids: pa.Array | pa.ChunkedArray) -> TableMerger:
    delta.update_incremental()
    matching = f'held."{delta.schema().fields[0].name}" = named."id"'
    return delta.merge(pa.table({"id": ids}), matching, source_alias="named", target_alias="held")


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn Delta's errors into ours. Their texts may quote values of rows, so that only their kind is shown."""
    try:
        yield
    except CommitFailedError:
        raise Conflict(what) from None
    except SchemaMismatchError as error:
        raise ConfigurationError(f"FHIRLINE_TABLES_URL: table {what}: {type(error).__name__}") from None
    except (DeltaError, OSError) as error:
        raise StoreUnavailable(f"table {what}: {type(error).__name__}") from None
