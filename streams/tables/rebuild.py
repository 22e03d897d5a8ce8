"""Making tables anew from the topics, beside the live ones, and putting them into their places in one transaction.

A rebuilt table holds what the topics held up to the live positions, as all other tables do: the topics are read up to
the positions, and what another process has committed meanwhile is read within the last transaction, which holds the
positions still. Until then, readers have the old table. A process that is killed leaves only tables whose names begin
with ``_new_``, which the next rebuild replaces.

Where the topics themselves were made anew, the positions mean nothing. All tables are then made of all records, and get
the positions up to which these were read.

``normalizer.outcome`` is not compacted: what retention has deleted cannot be read again. Rows of OperationOutcomes that
the topic no longer has are carried over from the old table, where both have the columns, and no others are made than
``record`` has. Without identities, outcomes have no rows. Where somebody has dropped or altered ``record``, the
outcomes are those of the topic.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_confluent
from fhirline.streams.tables.batch import collect
from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.catalog import OUTCOMES, Catalog
from fhirline.streams.tables.positions import note_complete, read_positions, replace_positions
from fhirline.streams.tables.schema import beside, columns_of, exists, is_whole, replace
from fhirline.streams.tables.store import Stopped, Store, ValueTooLong, quoted
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.topics import TOPICS, Topics
from fhirline.streams.tables.views.view import ANY_RESOURCE
from fhirline.topics.declared import OUTCOME, canonical_topic


class Rebuild:
    """One rebuild of the tables of ``catalog``. ``stopping``: asked after each batch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        progress: Progress | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._tables = tuple(catalog.tables.values())
        self._progress = progress
        self._stopping = stopping
        self._read: dict[TopicPartition, int] = {}
        self._records = 0

    def of_views(self) -> int:
        """Rebuild the tables up to the live positions; return how many records were read.

        Raises Stopped, KafkaAccessError, StoreUnavailable and UnfitRows.
        """
        self._create()
        with Scanner(self._settings, self._progress) as scanner:
            self._load(scanner, self._live())
            while not self._put_in_place(scanner):
                pass
        return self._records

    def _put_in_place(self, scanner: Scanner) -> bool:
        """Read on to the live positions and replace the live tables, in one transaction.

        False: an index did not take a value, and was dropped for that; nothing else has changed.
        """
        read, records = dict(self._read), self._records
        try:
            with self._store.transaction():
                self._store.lock_positions()
                self._apply_within(scanner, self._live())
                if not self._catalog.without_identities and is_whole(self._store, RECORD):
                    for table in self._tables:
                        self._carry_over(table)
                replace(self._store, self._tables)
        except ValueTooLong as error:
            self._store.drop_indexes(error)
            self._read, self._records = read, records
            return False
        return True

    def of_everything(self, topics: Topics) -> int:
        """Rebuild the tables, which have to be all of them, from all that the topics hold, and set the positions.

        Raises as `of_views` does.
        """
        begun = time.time()
        self._create()
        with Scanner(self._settings, self._progress) as scanner:
            self._load(scanner, dict.fromkeys(topics.partitions))
            with self._store.transaction():
                self._store.lock_positions()
                replace_positions(self._store, self._read, topics.ids)
                replace(self._store, self._tables)
                note_complete(self._store, begun)
        return self._records

    def _create(self) -> None:
        with self._store.transaction():
            for table in self._tables:
                self._store.run(f"drop table if exists {self._store.of(beside(table.name))}")
                self._store.create(table, beside(table.name))

    def _live(self) -> dict[TopicPartition, int | None]:
        wanted = topics_of(self._tables)
        return {partition: end for partition, end in read_positions(self._store).items() if partition.topic in wanted}

    def _load(self, scanner: Scanner, ends: Mapping[TopicPartition, int | None]) -> None:
        """Read up to ``ends``, in many transactions, and create the indexes."""
        for records in _chunks(self._up_to(scanner, ends), self._settings.tables_batch):
            with self._store.transaction():
                self._apply(records)
            if self._stopping():
                raise Stopped
        for table in self._tables:
            self._store.create_indexes(table, beside(table.name))

    def _apply_within(self, scanner: Scanner, ends: Mapping[TopicPartition, int | None]) -> None:
        for records in _chunks(self._up_to(scanner, ends), self._settings.tables_batch):
            self._apply(records)

    def _apply(self, records: list[ConsumerRecord]) -> None:
        self._records += len(records)
        for name, change in collect(records, self._catalog).changes.items():
            self._store.delete(change.table, change.ids, beside(name))
            self._store.insert(change.table, change.rows, beside(name))

    def _up_to(self, scanner: Scanner, ends: Mapping[TopicPartition, int | None]) -> Iterator[ConsumerRecord]:
        """Read on to ``ends``, where None is the end of the partition."""
        starts = {
            partition: self._read.get(partition)
            for partition, end in ends.items()
            if end is None or self._read.get(partition, 0) < end
        }
        for message in scanner.read(starts, {partition: end for partition, end in ends.items() if end is not None}):
            record = from_confluent(message)
            self._read[record.topic_partition] = record.offset + 1
            yield record
        self._read.update(
            {partition: end for partition, end in ends.items() if end is not None and partition in starts}
        )

    def _carry_over(self, table: Table) -> None:
        """Give a rebuilt table the OperationOutcomes that ``record`` has: no erased ones, and those that are kept."""
        store = self._store
        if table.resource not in (OUTCOMES, ANY_RESOURCE) or not exists(store, table.name):
            return
        had = columns_of(store, table.name)
        new = columns_of(store, beside(table.name))
        same = [column.name for column in table.columns if had.get(column.name) == new[column.name]]
        if not {table.id_column, *table.key} <= set(same):
            return
        columns, id, new_table = ", ".join(map(quoted, same)), quoted(table.id_column), store.of(beside(table.name))
        known = f"select o.{id} from {store.of(RECORD.name)} o where o.resource_type = '{OUTCOMES}'{self._not_erased()}"
        outcome = f"{id} like '{OUTCOMES}/%'" if table.id_column == RECORD.id_column else "true"
        if table.resource == OUTCOMES or table.id_column == RECORD.id_column:
            store.run(f"delete from {new_table} where {outcome} and {id} not in ({known})")
        try:
            store.run(
                f"insert into {new_table} ({columns}) select {columns} from {store.of(table.name)} "
                f"where {id} in ({known}) and {id} not in (select {id} from {new_table})"
            )
        except ValueTooLong as error:
            indexed = {column for index in table.indexes for column in index} - {*table.key}
            raise ValueTooLong(str(error), beside(table.name), sorted(indexed)) from None

    def _not_erased(self) -> str:
        """Return the condition that an outcome's event has not lost its Provenance, whose tombstone was missed."""
        if RECORD not in self._tables:
            return ""
        old, new = self._store.of(RECORD.name), self._store.of(beside(RECORD.name))
        return (
            f" and not exists (select 1 from {old} p where p.resource_type = 'Provenance' and p.vendor = o.vendor "
            f"and p.tenant = o.tenant and p.event_key = o.event_key "
            f"and p.record_key not in (select record_key from {new}))"
        )


def topics_of(tables: Iterable[Table]) -> set[str]:
    """Return the topics whose records have rows in these tables."""
    wanted: set[str] = set()
    for table in tables:
        if table.resource == ANY_RESOURCE:
            return set(TOPICS)
        wanted.add(OUTCOME if table.resource == OUTCOMES else canonical_topic(table.resource))
    return wanted


def _chunks(records: Iterator[ConsumerRecord], most: int) -> Iterator[list[ConsumerRecord]]:
    while chunk := [*islice(records, most)]:
        yield chunk
