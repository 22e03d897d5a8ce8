"""Making tables of a lakehouse anew: in ``_new``, where they follow the topics as all tables do, then in their places.

A table in ``_new`` has positions too, so that a rebuild which was killed goes on where it was, unless that is so long
ago that tombstones may be gone of what it has read. It comes into its place by one commit, which replaces rows,
columns, definition and positions of the old table; readers have the old version until then. The tables come one after
the other; a kill between two leaves the others old, and the next start goes on.

Tables are read up to the positions of ``record``, which knows what OperationOutcomes are kept and which are erased.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, Transaction, write_deltalake

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.catalog import OUTCOMES, Catalog
from fhirline.streams.tables.delta.batch_writer import Writer
from fhirline.streams.tables.delta.lake_table import (
    DEFINITION,
    NONE,
    Conflict,
    LakeTable,
    arrow_schema,
    delete_other_rows,
    errors,
    number_of,
)
from fhirline.streams.tables.delta.lakehouse import NEW, Lakehouse
from fhirline.streams.tables.store import OtherWriter, Stopped, quoted
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.topics import Topics, made_anew
from fhirline.streams.tables.views.view import ANY_RESOURCE, Column


class LakeRebuild:
    """Rebuilds tables of a lakehouse, and creates those of one that has none."""

    def __init__(
        self,
        settings: Settings,
        house: Lakehouse,
        catalog: Catalog,
        topics: Topics,
        progress: Progress | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._house = house
        self._catalog = catalog
        self._topics = topics
        self._progress = progress
        self._stopping = stopping

    def wanted(self, everything: bool = False) -> list[str]:
        """Return the tables that have to be rebuilt. Where no table was ever written, create them all.

        Raises ConfigurationError where topics were made anew.
        """
        found = {table.name: self._open(table) for table in self._catalog.tables.values()}
        for known in filter(None, found.values()):
            if other := known.other_topics(self._topics.ids):
                raise ConfigurationError(made_anew(other[0], len(other), self._house.where))
        if not any(lake is not None and lake.positions for lake in found.values()):
            for name, lake in found.items():
                if lake is not None and not lake.is_current:
                    self._house.discard(self._house.path / name)
                if lake is None or not lake.is_current:
                    self._house.create(self._catalog.tables[name], self._topics.partitions)
            renewed = []
        else:
            renewed = [name for name, lake in found.items() if everything or lake is None or not lake.is_current]
        if not renewed:
            self._house.discard(self._house.path / NEW)
        return sorted(renewed)

    def lakes(self) -> list[LakeTable]:
        """Open all tables."""
        found = [self._open(table) for table in self._catalog.tables.values()]
        return [lake for lake in found if lake is not None]

    def of_views(self, names: Iterable[str]) -> int:
        """Rebuild tables up to the positions of ``record``; return how many records were read."""
        record = self._open(RECORD) if RECORD in self._catalog.built_in else None
        ends: Mapping[TopicPartition, int | None]
        ends = dict.fromkeys(self._topics.partitions) if record is None else {**record.positions}
        new = self._new(names)
        records, read = self._load(new, ends)
        new_record = next((lake for lake in new if lake.table == RECORD), None)
        for lake in sorted(new, key=lambda lake: lake.table == RECORD):
            self._publish(lake, read, record, new_record)
        self._house.discard(self._house.path / NEW)
        return records

    def of_everything(self) -> int:
        """Rebuild all tables from all that the topics hold, also where these were made anew."""
        self._house.discard(self._house.path / NEW)
        new = self._new(self._catalog.tables)
        records, read = self._load(new, dict.fromkeys(self._topics.partitions))
        for lake in sorted(new, key=lambda lake: lake.table == RECORD):
            self._publish(lake, read, None)
        self._house.discard(self._house.path / NEW)
        return records

    def delete_unknown(self) -> None:
        """Delete from tables of gone views, which are not rebuilt, the rows of resources that ``record`` does not have.

        Ids alone are compared: two types have no id in common (docs/design/tables.md §10).
        """
        record, gone = self._open(RECORD), gone_tables(self._house, self._catalog)
        if record is None or not gone:
            return
        with errors(RECORD.name):
            query = QueryBuilder().register("record", record.delta)
            known = pa.table(query.execute("select distinct resource_id from record"))
        for delta in gone:
            delete_other_rows(delta, known.column(0))

    def _open(self, table: Table) -> LakeTable | None:
        return self._house.open(table, self._topics.partitions)

    def _new(self, names: Iterable[str]) -> list[LakeTable]:
        return [self._house.open_new(self._catalog.tables[name], self._topics) for name in names]

    def _load(
        self, lakes: list[LakeTable], ends: Mapping[TopicPartition, int | None]
    ) -> tuple[int, dict[TopicPartition, int]]:
        """Read on to ``ends``, where None is the end of the partition; return records, and how far it has read."""
        writer = Writer(self._catalog, lakes, self._topics.ids, self._house.where)
        starts = writer.starts([partition for partition in ends if any(partition in lake.partitions for lake in lakes)])
        read = {partition: end for partition, end in ends.items() if end is not None}
        count = 0
        wanted = {
            partition: at for partition, at in starts.items() if (end := ends[partition]) is None or (at or 0) < end
        }
        with Scanner(self._settings, self._progress) as scanner:
            found = scanner.read(wanted, {partition: read[partition] for partition in wanted if partition in read})
            for records in _chunks(map(from_confluent, found), self._settings.tables_batch):
                writer.write(records)
                count += len(records)
                for record in records:
                    partition = record.topic_partition
                    read[partition] = max(read.get(partition, 0), record.offset + 1)
                if self._stopping():
                    raise Stopped
        return count, read

    def _publish(
        self,
        new: LakeTable,
        read: Mapping[TopicPartition, int],
        record: LakeTable | None,
        new_record: LakeTable | None = None,
    ) -> None:
        """Put a rebuilt table into its place, in one commit. ``record`` knows the outcomes that are carried over."""
        table = new.table
        live = self._open(table) or self._house.create(table, self._topics.partitions)
        if record is not None and record.newest().positions != record.positions:  # outcomes may have been erased since
            raise self._other(table)
        with errors(table.name):
            had = {field.name for field in live.delta.schema().fields}
        schema = arrow_schema(table)
        query = QueryBuilder().register("new", new.delta).register("old", live.delta)
        if record is not None:
            query = query.register("record", record.delta)
        if new_record is not None:
            query = query.register("new_record", new_record.delta)
        carry = record is not None and bool(live.positions)
        rows = pa.RecordBatchReader.from_stream(query.execute(_rows(table, had, carry, new_record is not None)))
        moves = {
            partition: max(new.positions.get(partition, NONE), read.get(partition, NONE))
            for partition in new.partitions
        }
        live.positions = {}  # all topics are noted again
        marks = live.marks(moves, self._topics.ids)
        marks.app_transactions = [*(marks.app_transactions or ()), Transaction(DEFINITION, number_of(table.digest))]
        try:
            with errors(table.name):
                write_deltalake(
                    live.delta,
                    pa.RecordBatchReader.from_batches(schema, _cast(rows, schema)),
                    mode="overwrite",
                    schema_mode="overwrite",
                    commit_properties=marks,
                )
                live.delta.alter.set_table_description(table.description)
        except Conflict:
            raise self._other(table) from None

    def _other(self, table: Table) -> OtherWriter:
        return OtherWriter(
            f"{self._house.where}: another process has written the tables meanwhile; {table.name} is as it was: end "
            "that process, and rebuild again"
        )


def _rows(table: Table, had: set[str], carry: bool, record_is_new: bool) -> str:
    """Return the query of a rebuilt table's rows.

    ``carry``: OperationOutcomes that their topic has no longer are carried over from the old table, where both have the
    columns; those that ``record`` does not have were erased, and do not come again (`rebuild`). ``record_is_new``: it
    is rebuilt, too, so that it tells which events have lost their Provenance, whose tombstone was missed.
    """
    columns, id = ", ".join(quoted(column.name) for column in table.columns), quoted(table.id_column)
    plain = f"select {columns} from new"
    if not carry or table.resource not in (OUTCOMES, ANY_RESOURCE) or not {table.id_column, *table.key} <= had:
        return plain
    known_id = RECORD.id_column if table.id_column == RECORD.id_column else "resource_id"
    known = f"select o.{known_id} from record o where o.resource_type = '{OUTCOMES}'"
    if record_is_new:
        known += (
            " and not exists (select 1 from record p left join new_record n on n.record_key = p.record_key "
            "where p.resource_type = 'Provenance' and n.record_key is null "
            "and p.vendor = o.vendor and p.tenant = o.tenant and p.event_key = o.event_key)"
        )
    if table.id_column == RECORD.id_column:
        plain += f" where {id} not like '{OUTCOMES}/%' or {id} in ({known})"
    elif table.resource == OUTCOMES:
        plain += f" where {id} in ({known})"
    kept = ", ".join(_or_null(column, had) for column in table.columns)
    return f"{plain} union all select {kept} from old where {id} in ({known}) and {id} not in (select {id} from new)"


def _or_null(column: Column, had: set[str]) -> str:
    return quoted(column.name) if column.name in had else f"null as {quoted(column.name)}"


def _cast(rows: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        yield from pa.Table.from_batches([batch]).cast(schema).to_batches()


def _chunks(records: Iterator[ConsumerRecord], most: int) -> Iterator[list[ConsumerRecord]]:
    while chunk := [*islice(records, most)]:
        yield chunk


def gone_tables(house: Lakehouse, catalog: Catalog) -> list[DeltaTable]:
    """Open the tables of views that are gone."""
    gone = {*house.names()} - catalog.tables.keys()
    with errors(", ".join(sorted(gone))):
        return [DeltaTable(house.path / name) for name in sorted(gone)]
