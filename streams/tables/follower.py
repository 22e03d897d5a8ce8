"""Keeping the tables: batches of records become transactions (docs/design/tables.md).

The invariant stands in `positions`: rows and positions move in one transaction, and only from positions that this
process knows. So a batch whose transaction has no known result (the database went away) is done if the positions are
at its end, is repeated if they are at its beginning, and is another process's otherwise.
"""

import time
from collections.abc import Callable

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, Lag, TopicPartition
from fhirline.streams.tables import schema
from fhirline.streams.tables.batch import Batch, collect
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.erased_events import delete_outcomes, outcomes_of_erased
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.positions import Move, move, read_positions, topic_ids
from fhirline.streams.tables.rebuild import Rebuild, Stopped
from fhirline.streams.tables.source import OutOfRange, Reader
from fhirline.streams.tables.store import OtherWriter, Store, StoreAway
from fhirline.streams.tables.topics import Topics, made_anew, require_same_topics
from fhirline.streams.tables.views.view import ANY_RESOURCE
from fhirline.topics.declared import OUTCOME

log = structlog.get_logger("tables")

RETRY_SECONDS = 0.5
RETRY_LONGEST = 15.0
NOTE_SECONDS = 60.0
"""Interval between two notes that all topics were read to their ends."""

TOMBSTONE_SHARE = 0.8
"""Part of the time that topics keep tombstones, after which tables count as having missed some."""


class Follower:
    """Keeps the tables of one store. Blocking: it has a thread of its own. ``stopping``: asked between batches."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        topics: Topics,
        metrics: TablesMetrics,
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._topics = topics
        self._metrics = metrics
        self._stopping = stopping
        self._reader = Reader(settings)
        self._positions: dict[TopicPartition, int] = {}
        self._generation = 0
        self._gone: dict[str, schema.Known] = {}
        self._records = 0
        self._noted = 0.0
        self._uncertain = False
        self._away = ""
        self.following = False
        self.complete = False
        """Tell whether all topics have been read to their ends once."""

    def lags(self) -> list[Lag]:
        return self._reader.lags() if self.following else []

    def problems(self) -> list[str]:
        """Return why the tables are not being kept."""
        if self._away:
            return [self._away]
        return [] if self.following else ["the tables are being prepared"]

    def run(self, drop_gone: bool = False, until_end: bool = False) -> None:
        """Keep the tables until stopped. ``until_end``: or until all topics were read to their ends.

        Raises OtherWriter, UnfitRows, KafkaAccessError and ConfigurationError.
        """
        try:
            self._patiently(lambda: self._prepare(drop_gone))
            while not self._stopping():
                if records := self._read():
                    self._write(records)
                self._patiently(self._look_after)
                if until_end and not records and self._reader.at_end:
                    return
            self._erase_bytes()
        except Stopped:
            return
        finally:
            self.following = False
            self._reader.close()

    # -- before the first batch

    def _prepare(self, drop_gone: bool) -> None:
        store = self._store
        schema.prepare(store, self._catalog.without_identities)
        require_same_topics(self._topics, topic_ids(store), f"{store.name}, schema {store.schema}")
        self._positions = read_positions(store)
        planned = schema.plan(store, self._catalog)
        if planned.gone and (drop_gone or self._catalog.without_identities):  # kept, they would have ids of an old key
            schema.drop_tables(store, planned.gone)
            log.info("tables dropped", tables=sorted(planned.gone))
        elif planned.gone:
            log.warning(
                "tables of views that are gone are kept, without new rows; those of erased patients are deleted",
                tables=sorted(planned.gone),
                remedy="drop them with --drop-gone, or bring the views back",
            )
        if planned.missing and not self._positions:
            schema.create_tables(store, planned.missing)
            planned = schema.plan(store, self._catalog)
        if self._missed_tombstones():
            begun = time.time()
            self._rebuild(self._catalog, "tombstones may have been missed")
            schema.note_complete(store, begun)
        elif renewed := (*planned.missing, *planned.changed):
            self._rebuild(self._catalog.only(table.name for table in renewed), "views are new or have changed")
        self._gone = {name: known for name, known in schema.known_tables(store).items() if name in planned.gone}
        self._generation = schema.generation(store)
        self._start_reading()
        self.following = True
        log.info("following", database=store.name, schema=store.schema, tables=len(self._catalog.tables))

    def _missed_tombstones(self) -> bool:
        """Tell whether topics may have dropped tombstones that these tables have not seen.

        Kafka keeps a tombstone for ``delete.retention.ms``, a day by default. Who stood still for longer may keep rows
        of a patient who was erased.
        """
        if not self._positions:
            return False
        return time.time() - schema.complete_at(self._store) > TOMBSTONE_SHARE * self._topics.tombstone_seconds

    def _rebuild(self, catalog: Catalog, reason: str) -> None:
        names = sorted(catalog.tables)
        log.info("rebuilding", tables=names, reason=reason)
        begun = time.monotonic()
        records = Rebuild(self._settings, self._store, catalog, None, self._stopping).of_views()
        log.info("rebuilt", tables=len(names), records=records, seconds=round(time.monotonic() - begun, 1))

    def _start_reading(self) -> None:
        self._reader.start({place: self._positions.get(place) for place in self._topics.partitions})

    # -- each batch

    def _read(self) -> list[ConsumerRecord]:
        settings = self._settings
        try:
            return self._reader.read(settings.tables_batch, settings.tables_batch_bytes, settings.tables_within)
        except OutOfRange as error:
            self._skip_deleted(error.partition)
            return []

    def _skip_deleted(self, partition: TopicPartition) -> None:
        """Read on at the first record of a partition of outcomes, whose older ones retention has deleted.

        Raises ConfigurationError for every other partition: a compacted topic has all offsets from its beginning on.
        """
        first, end = self._reader.range(partition)
        position = self._positions.get(partition, 0)
        if partition.topic != OUTCOME or position > end:
            where = f"{self._store.name}, schema {self._store.schema}"
            raise ConfigurationError(made_anew(partition.topic, 1, where))
        log.warning(
            "outcomes were deleted before they were read",
            partition=str(partition),
            records=first - position,
            remedy="a replay of their events writes them again (docs/replay.md)",
        )
        self._patiently(lambda: self._commit(Batch(), {partition: Move(self._positions.get(partition), first)}))
        self._start_reading()

    def _write(self, records: list[ConsumerRecord]) -> None:
        """Apply records in one transaction, however often the database goes away meanwhile."""
        begun = time.monotonic()
        batch = collect(records, self._catalog)
        ends = {record.topic_partition: record.offset + 1 for record in records}
        moves = {place: Move(self._positions.get(place), end) for place, end in ends.items()}
        self._patiently(lambda: self._commit(batch, moves))
        self._count(records, batch, time.monotonic() - begun)

    def _commit(self, batch: Batch, moves: dict[TopicPartition, Move]) -> None:
        store = self._store
        if self._done(moves):
            return
        log.debug("transaction", records=batch.records, rows=batch.rows)
        with store.transaction():
            move(store, moves, self._topics.ids)
            self._require_known_tables()
            removed = [] if self._catalog.without_identities else batch.removed.get("Provenance", [])
            if erased := outcomes_of_erased(store, removed):
                delete_outcomes(store, self._catalog, erased)
            for change in batch.changes.values():
                store.delete(change.table, change.ids)
                store.insert(change.table, change.rows)
            for name, known in self._gone.items():
                if removed := _removed(batch, known):
                    store.delete_where(name, known.id_column, removed)
            if batch.removed:
                schema.note_erased(store, True)
        self._positions |= {place: to.new for place, to in moves.items()}

    def _done(self, moves: dict[TopicPartition, Move]) -> bool:
        """Tell whether a transaction without a known result was committed. Raises OtherWriter where another one was."""
        if not self._uncertain:
            return False
        found = read_positions(self._store)
        if all(found.get(place) == to.new for place, to in moves.items()):
            self._positions |= {place: to.new for place, to in moves.items()}
            return True
        return False  # the move finds out whether they are where this process left them

    def _require_known_tables(self) -> None:
        """Raise OtherWriter where tables have been made by other definitions since this process began.

        A rebuild by the same definitions changes nothing for it.
        """
        found = schema.generation(self._store)
        if found == self._generation:
            return
        known = schema.known_tables(self._store)
        if any(name not in known or known[name].digest != table.digest for name, table in self._catalog.tables.items()):
            raise OtherWriter(
                f"{self._store.name}: another process has changed the tables of schema {self._store.schema} by other "
                "views. Nothing was written; start this process again with the same views"
            )
        self._gone = {name: item for name, item in known.items() if name not in self._catalog.tables}
        self._generation = found

    def _count(self, records: list[ConsumerRecord], batch: Batch, seconds: float) -> None:
        metrics = self._metrics
        self._records += batch.records
        metrics.records.inc(batch.records)
        metrics.removed.inc(sum(map(len, batch.removed.values())))
        metrics.unreadable.inc(len(batch.unreadable))
        metrics.seconds.observe(seconds)
        metrics.newest.set(max(record.timestamp_ms for record in records) / 1000)
        for name, change in batch.changes.items():
            metrics.rows.labels(name).inc(len(change.rows))
        if batch.unreadable:
            log.warning(
                "records that are no resource of their key have no rows",
                records=len(batch.unreadable),
                first=batch.unreadable[0],
            )
        log.debug("committed", records=batch.records, rows=batch.rows, seconds=round(seconds, 3))

    # -- now and then

    def _look_after(self) -> None:
        """Note when all topics were read to their ends, and erase the bytes of deleted rows, about once a minute."""
        if (complete_at := self._reader.complete_at()) is None:
            return
        now = time.monotonic()
        if self.complete and now - self._noted < NOTE_SECONDS:
            return
        if self._missed_tombstones():
            self._rebuild(self._catalog, "tombstones may have been missed")
            self._generation = schema.generation(self._store)
        schema.note_complete(self._store, complete_at)
        self._noted = now
        if not self.complete:
            self.complete = True
            log.info("complete", records=self._records)
        self._erase_bytes()

    def _erase_bytes(self) -> None:
        if schema.is_erased(self._store):
            self._store.erase_deleted_bytes()
            schema.note_erased(self._store, False)

    # -- the database away

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do ``work``, and repeat it while the database does not answer. Raises Stopped."""
        seconds = RETRY_SECONDS
        while True:
            try:
                work()
            except StoreAway as error:
                self._uncertain = True
                if not self._away:
                    log.warning("the database does not answer", reason=str(error))
                self._away = str(error)
                self._metrics.away.set(1)
            else:
                self._uncertain = False
                if self._away:
                    log.info("the database answers again")
                self._away = ""
                self._metrics.away.set(0)
                return
            self._pause(seconds)
            seconds = min(2 * seconds, RETRY_LONGEST)
            try:
                self._store.reconnect()
            except StoreAway as error:
                self._away = str(error)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._stopping():
                raise Stopped
            time.sleep(0.05)


def _removed(batch: Batch, known: schema.Known) -> list[str]:
    """Return the ids of erased resources whose rows a table of no view may have."""
    if known.resource == ANY_RESOURCE:
        return [id for ids in batch.removed.values() for id in ids]
    return batch.removed.get(known.resource, [])
