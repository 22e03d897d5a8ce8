"""Keeping the tables: batches of records become transactions (docs/design/tables.md).

The invariant is stated in `positions`: rows and positions move in one transaction, and only from positions that this
process knows. So a batch whose transaction has no known result (the database went away) is done if the positions are
at its end, is repeated if they are at its beginning, and is another process's otherwise.
"""

import time
from collections.abc import Callable, Collection

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.tables import altered, schema
from fhirline.streams.tables.batch import Batch, collect
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.gone_views import delete_unknown, removed_from
from fhirline.streams.tables.keeping import Keeper, warn_of_gone
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.patience import Patience
from fhirline.streams.tables.positions import (
    Move,
    complete_at,
    move,
    note_complete,
    note_read_to_end,
    read_positions,
    topic_ids,
)
from fhirline.streams.tables.rebuild import Rebuild
from fhirline.streams.tables.source import Reader
from fhirline.streams.tables.store import OtherWriter, PositionsMoved, Store, ValueTooLong
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.topics import TOPICS, Topics, require_same_topics
from fhirline.topics.tables_group import shared_tables_group

log = structlog.get_logger("tables")

NOTE_SECONDS = 60.0
"""Interval between two notes that all topics were read to their ends."""


class Follower(Keeper):
    """Keeps the tables of one store; it shares the partitions with other processes where the store can be shared.

    With ``until_end`` it reads all partitions.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        topics: Topics,
        metrics: TablesMetrics,
        stopping: Callable[[], bool],
        until_end: bool = False,
    ) -> None:
        self._group = shared_tables_group(settings) if store.shared and not until_end else None
        where = f"{store.name}, schema {store.schema}"
        reader, patience = Reader(settings, self._group), Patience(metrics, stopping, store.reconnect, store.shared)
        super().__init__(settings, catalog, topics, metrics, stopping, until_end, where, reader, patience)
        self._store = store
        self._positions: dict[TopicPartition, int] = {}
        self._generation = 0
        self._gone: dict[str, schema.Known] = {}

    # -- before the first batch

    def _prepare(self, drop_gone: bool) -> None:
        self._patience.alone(self._store, lambda: self._prepare_alone(drop_gone))

    def _prepare_alone(self, drop_gone: bool) -> None:
        store = self._store
        altered.require_all_or_none(store)
        if dropped := schema.drop_older(store, self._catalog.without_identities):
            kept = "all are filled anew, but for outcomes that their topic no longer has"
            log.info("tables dropped", tables=dropped, reason=f"an older release made them; {kept}")
        schema.prepare(store, self._catalog.without_identities)
        require_same_topics(self._topics, topic_ids(store), self._where)
        altered.require_positions(store)
        self._positions = read_positions(store)
        schema.forget_dropped(store, schema.plan(store, self._catalog).gone)
        planned = schema.plan(store, self._catalog)
        if planned.gone and (drop_gone or self._catalog.without_identities):  # kept, they would have ids of an old key
            schema.drop_tables(store, planned.gone)
            log.info("tables dropped", tables=sorted(planned.gone))
        elif planned.gone:
            schema.mark_gone(store, planned.gone)
            warn_of_gone(planned.gone)
        if planned.missing and not self._positions and schema.create_tables(store, planned.missing):
            planned = schema.plan(store, self._catalog)
        if self._missed_tombstones():
            self._renew()
        else:
            self._rebuild((*planned.missing, *planned.changed), "views are new or have changed")
            self._rebuild(planned.altered, "others have dropped or altered the tables")
        self._gone = {name: known for name, known in schema.known_tables(store).items() if name in planned.gone}
        self._generation = schema.generation(store)
        if self._group is not None:
            schema.note_kept_by(store, self._group)
        log.info(
            "following", database=store.name, schema=store.schema, tables=len(self._catalog.tables), group=self._group
        )

    def _missed_tombstones(self) -> bool:
        complete = complete_at(self._store)
        return complete is not None and self._topics.may_miss_tombstones(time.time() - complete)

    def _rebuild(self, tables: Collection[Table], reason: str) -> None:
        if not tables:
            return
        catalog = self._catalog.only(table.name for table in tables)
        log.info("rebuilding", tables=sorted(catalog.tables), reason=reason)
        begun = time.monotonic()
        records = Rebuild(self._settings, self._store, catalog, None, self._stopping).of_views()
        log.info("rebuilt", tables=len(catalog.tables), records=records, seconds=round(time.monotonic() - begun, 1))

    def _start_reading(self) -> None:
        if self._group is None:
            self._reader.start({partition: self._positions.get(partition) for partition in self._topics.partitions})
        else:
            self._reader.join(TOPICS, self._found_positions)

    def _found_positions(self) -> dict[TopicPartition, int]:
        """Return the positions that the database has now: other processes have moved those of partitions that they had.

        The last move of a process whose end is not known here may still be going on. Its partitions' positions are
        locked then, and this process's own move waits for it and finds another position.
        """

        def read() -> None:
            self._positions = read_positions(self._store)

        self._patience.do(read)
        return self._positions

    # -- each batch

    def _position(self, partition: TopicPartition) -> int | None:
        return self._positions.get(partition)

    def _move(self, partition: TopicPartition, offset: int) -> None:
        self._applied(Batch(), {partition: Move(self._positions.get(partition), offset)})

    def _write(self, records: list[ConsumerRecord]) -> None:
        """Apply records in one transaction, however often the database goes away meanwhile."""
        begun = time.monotonic()
        batch = collect(records, self._catalog)
        ends = {record.topic_partition: record.offset + 1 for record in records}
        moves = {partition: Move(self._positions.get(partition), end) for partition, end in ends.items()}
        if self._applied(batch, moves):
            self._records += batch.records
            self._metrics.count(records, batch, time.monotonic() - begun)
        else:
            self._start_reading()

    def _applied(self, batch: Batch, moves: dict[TopicPartition, Move]) -> bool:
        """Apply a batch, unless another process of the group has one of its partitions now. Raises OtherWriter.

        Within the group that is no failure. This process has not yet heard that it lost the partition.
        """
        try:
            self._patience.do(lambda: self._commit_whatever_long(batch, moves))
        except PositionsMoved:
            self._patience.do(lambda: altered.require_positions(self._store))
            if self._group is None:
                raise
            self._patience.do(self._require_same_group)
            log.info("records dropped: another process has their partitions", records=batch.records)
            return False
        except ConfigurationError:
            self._patience.do(lambda: altered.require_unaltered(self._store, self._catalog, self._gone))
            raise
        return True

    def _require_same_group(self) -> None:
        """Raise OtherWriter where processes of another group have begun to keep these tables."""
        keeper = schema.kept_by(self._store)
        if self._group is not None and keeper != self._group:
            raise OtherWriter(
                f"{self._store.name}: processes of another consumer group ({keeper}, this one being of {self._group}) "
                f"keep the tables of schema {self._store.schema}. Nothing was written; end one of them, or give them "
                "the same FHIRLINE_GROUP and the same address in FHIRLINE_TABLES_URL"
            )

    def _commit_whatever_long(self, batch: Batch, moves: dict[TopicPartition, Move]) -> None:
        """Commit a batch. An index that a value is too long for, such as a vendor's identifier, is dropped."""
        while True:
            try:
                return self._commit(batch, moves)
            except ValueTooLong as error:
                self._store.drop_indexes(error)

    def _commit(self, batch: Batch, moves: dict[TopicPartition, Move]) -> None:
        store = self._store
        if self._done(moves):
            return
        log.debug("transaction", records=batch.records, rows=batch.rows)
        with store.transaction():
            move(store, moves, self._topics.ids)
            self._require_same_group()
            self._require_known_tables()
            for change in batch.changes.values():
                store.delete(change.table, change.ids)
                store.insert(change.table, change.rows)
            for name, known in self._gone.items():
                if removed := removed_from(batch, known):
                    store.delete_where(name, known.id_column, removed)
            if batch.removed:
                schema.note_erased(store, True)
        self._positions |= {partition: to.new for partition, to in moves.items()}

    def _done(self, moves: dict[TopicPartition, Move]) -> bool:
        """Tell whether a transaction without a known result was committed. Raises OtherWriter where another one was."""
        if not self._patience.uncertain:
            return False
        found = read_positions(self._store)
        if all(found.get(partition) == to.new for partition, to in moves.items()):
            self._positions |= {partition: to.new for partition, to in moves.items()}
            return True
        return False  # the move finds out whether they are where this process left them

    def _require_known_tables(self) -> None:
        """Raise OtherWriter where tables have been made by other definitions since this process began.

        A rebuild by the same definitions changes nothing for it. A table that only the others have would lack the rows
        of this process's partitions.
        """
        found = schema.generation(self._store)
        if found == self._generation:
            return
        known = schema.known_tables(self._store)
        ours = self._catalog.tables
        others = (item.digest for name, item in known.items() if name not in ours)
        if any(others) or any(name not in known or known[name].digest != table.digest for name, table in ours.items()):
            raise OtherWriter(
                f"{self._store.name}: another process has changed the tables of schema {self._store.schema} by other "
                "views. Nothing was written; start this process again with the same views"
            )
        self._gone = {name: item for name, item in known.items() if name not in self._catalog.tables}
        self._generation = found

    # -- now and then

    def _look_after(self) -> None:
        """Note when all topics were read to their ends, and erase the bytes of deleted rows, about once a minute."""
        try:
            self._note_end()
        except ConfigurationError:
            altered.require_unaltered(self._store, self._catalog, self._gone)
            raise

    def _note_end(self) -> None:
        if (ended := self._reader.complete_at()) is None:
            return
        now = time.monotonic()
        if self.complete and now - self._noted < NOTE_SECONDS:
            return
        if self._missed_tombstones():
            self._patience.alone(self._store, self._renew)
        note_read_to_end(self._store, self._positions, ended)
        self._noted = now
        self._log_completion()
        self._erase_bytes()

    def _end(self) -> None:
        self._erase_bytes()

    def _renew(self) -> None:
        """Rebuild all tables, unless another process has done so meanwhile."""
        if self._missed_tombstones():
            begun = time.time()
            self._rebuild(self._catalog.tables.values(), "tombstones may have been missed")
            for name, known in schema.plan(self._store, self._catalog).gone.items():
                delete_unknown(self._store, name, known)
            note_complete(self._store, begun)
            self._generation = schema.generation(self._store)

    def _erase_bytes(self) -> None:
        if schema.is_erased(self._store):
            self._store.erase_deleted_bytes()
            schema.note_erased(self._store, False)
