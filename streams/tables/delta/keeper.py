"""Keeping the tables of a lakehouse: what `Follower` does for databases, with a commit per table, not one for all.

The two have no more in common than what is read and how rows are made: a database is asked by SQL and has transactions
over all its tables, a lakehouse has neither.
"""

import time
from collections.abc import Callable

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, Lag, TopicPartition
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.delta.lake_table import LakeTable
from fhirline.streams.tables.delta.lakehouse import NEW, Lakehouse
from fhirline.streams.tables.delta.rebuilding import LakeRebuild, gone_tables
from fhirline.streams.tables.delta.writing import Writer
from fhirline.streams.tables.follower import TOMBSTONE_SHARE
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.patience import RETRY_LONGEST, RETRY_SECONDS
from fhirline.streams.tables.rebuild import Stopped
from fhirline.streams.tables.source import OutOfRange, Reader
from fhirline.streams.tables.store import StoreAway
from fhirline.streams.tables.topics import Topics, made_anew
from fhirline.topics.declared import OUTCOME

log = structlog.get_logger("tables")

WITHIN = 15.0
"""Seconds that a batch waits to fill where FHIRLINE_TABLES_WITHIN is not set: each is a file per table."""

NOTE_SECONDS = 600.0
TIDY_SECONDS = 3600.0


class LakeKeeper:
    """Keeps the tables of one lakehouse. Blocking: it has a thread of its own. ``stopping``: asked between batches.

    ``until_end``: ends when all topics were read to their ends.
    """

    def __init__(
        self,
        settings: Settings,
        lakehouse: Lakehouse,
        catalog: Catalog,
        topics: Topics,
        metrics: TablesMetrics,
        stopping: Callable[[], bool],
        until_end: bool = False,
    ) -> None:
        self._settings = settings
        self._lakehouse = lakehouse
        self._catalog = catalog
        self._topics = topics
        self._metrics = metrics
        self._stopping = stopping
        self._until_end = until_end
        self._reader = Reader(settings)
        self._within = settings.tables_within if "tables_within" in settings.model_fields_set else WITHIN
        self._writer = Writer(catalog, (), topics.ids, lakehouse.where)
        self._records = 0
        self._noted = self._tidied = float("-inf")
        self._away = ""
        self.following = False
        self.complete = False

    def lags(self) -> list[Lag]:
        return self._reader.lags() if self.following else []

    def problems(self) -> list[str]:
        """Return why the tables are not being kept."""
        if self._away:
            return [self._away]
        return [] if self.following else ["the tables are being prepared"]

    def run(self, drop_gone: bool = False) -> None:
        """Keep the tables until stopped.

        Raises OtherWriter, UnfitRows, KafkaAccessError and ConfigurationError.
        """
        try:
            self._patiently(lambda: self._prepare(drop_gone))
            while not self._stopping():
                if records := self._read():
                    self._write(records)
                self._patiently(self._look_after)
                if self._until_end and not records and self._reader.at_end:
                    return
        except Stopped:
            return
        finally:
            self.following = False
            self._reader.close()

    def _prepare(self, drop_gone: bool) -> None:
        house, catalog, topics = self._lakehouse, self._catalog, self._topics
        house.prepare(catalog.without_identities)
        if (gone := sorted({*house.names()} - catalog.tables.keys())) and (drop_gone or catalog.without_identities):
            for name in gone:
                house.discard(house.path / name)
            log.info("tables dropped", tables=gone)
        elif gone:
            log.warning(
                "tables of views that are gone are kept, without new rows; those of erased patients are deleted",
                tables=gone,
                remedy="drop them with --drop-gone, or bring the views back",
            )
        begun = time.time()
        missed = self._missed_tombstones()
        if missed:  # a rebuild that was killed may have missed them too
            house.discard(house.path / NEW)
        rebuild = LakeRebuild(self._settings, house, catalog, topics, stopping=self._stopping)
        if renewed := rebuild.wanted(everything=missed):
            log.info("rebuilding", tables=renewed, reason="tombstones may have been missed" if missed else "new views")
            records = rebuild.of_views(renewed)
            log.info("rebuilt", tables=len(renewed), records=records, seconds=round(time.time() - begun, 1))
        if missed:
            rebuild.delete_unknown()
            house.note_complete(begun)
        self._start(rebuild.lakes())
        self.following = True
        log.info("following", database=house.name, schema=house.schema, tables=len(catalog.tables))

    def _start(self, lakes: list[LakeTable]) -> None:
        house = self._lakehouse
        self._writer = Writer(self._catalog, lakes, self._topics.ids, house.where, gone_tables(house, self._catalog))
        self._start_reading()

    def _start_reading(self) -> None:
        self._reader.start(self._writer.starts(self._topics.partitions))

    def _missed_tombstones(self) -> bool:
        """Tell whether topics may have dropped tombstones that these tables have not seen (tables.md §8)."""
        at = self._lakehouse.complete_at()
        return at is not None and time.time() - at > TOMBSTONE_SHARE * self._topics.tombstone_seconds

    def _read(self) -> list[ConsumerRecord]:
        settings = self._settings
        try:
            return self._reader.read(settings.tables_batch, settings.tables_batch_bytes, self._within)
        except OutOfRange as error:
            self._skip_deleted(error.partition)
            return []

    def _skip_deleted(self, partition: TopicPartition) -> None:
        """Read on at the first record of a partition of outcomes, whose older ones retention has deleted."""
        first, end = self._reader.range(partition)
        position = self._writer.starts([partition])[partition] or 0
        if partition.topic != OUTCOME or position > end:
            raise ConfigurationError(made_anew(partition.topic, 1, self._lakehouse.where))
        log.warning(
            "outcomes were deleted before they were read",
            partition=str(partition),
            records=first - position,
            remedy="a replay of their events writes them again (docs/replay.md)",
        )
        self._patiently(lambda: self._writer.move(partition, first))
        self._start_reading()

    def _write(self, records: list[ConsumerRecord]) -> None:
        begun = time.monotonic()

        def write() -> None:
            batch = self._writer.write(records)
            self._records += batch.records
            self._metrics.count(records, batch, time.monotonic() - begun)

        self._patiently(write)

    def _look_after(self) -> None:
        """Note now and then that all topics were read to their ends; merge small files and delete old ones hourly."""
        now = time.monotonic()
        if now - self._tidied > TIDY_SECONDS:
            self._lakehouse.tidy()
            self._tidied = now
        if (complete_at := self._reader.complete_at()) is None:
            return
        if self.complete and now - self._noted < NOTE_SECONDS:
            return
        if self._missed_tombstones():
            self._prepare(False)
            return
        self._lakehouse.note_complete(min(complete_at.values()))
        self._noted = now
        if not self.complete:
            self.complete = True
            log.info("complete", records=self._records)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do ``work``, and repeat it while the folder cannot be read or written: a disk may be full. Raises Stopped."""
        seconds = RETRY_SECONDS
        while True:
            try:
                work()
            except StoreAway as error:
                if not self._away:
                    log.warning("the lakehouse cannot be read or written", reason=str(error))
                self._away = str(error)
                self._metrics.away.set(1)
            else:
                if self._away:
                    log.info("the lakehouse can be written again")
                self._away = ""
                self._metrics.away.set(0)
                return
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if self._stopping():
                    raise Stopped
                time.sleep(0.05)
            seconds = min(2 * seconds, RETRY_LONGEST)
