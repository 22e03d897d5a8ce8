"""The keeper of a lakehouse's tables. It does what `Follower` does for databases, with one commit per table."""

import time
from collections.abc import Callable

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.delta.batch_writer import Writer
from fhirline.streams.tables.delta.lakehouse import NEW, Lakehouse
from fhirline.streams.tables.delta.rebuilding import LakeRebuild, gone_tables
from fhirline.streams.tables.keeping import Keeper, warn_of_gone
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.patience import Patience
from fhirline.streams.tables.source import Reader
from fhirline.streams.tables.topics import Topics

log = structlog.get_logger("tables")

WITHIN = 15.0
"""Seconds that a batch waits to fill where FHIRLINE_TABLES_WITHIN is not set: each is a file per table."""

NOTE_SECONDS = 600.0
TIDY_SECONDS = 3600.0


class LakeKeeper(Keeper):
    """Keeps the tables of one lakehouse."""

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
        reader, patience = Reader(settings), Patience(metrics, stopping)
        super().__init__(settings, catalog, topics, metrics, stopping, until_end, lakehouse.where, reader, patience)
        self._lakehouse = lakehouse
        self._writer = Writer(catalog, (), topics.ids, lakehouse.where)
        self._tidied = float("-inf")
        if "tables_within" not in settings.model_fields_set:
            self._within = WITHIN

    def _prepare(self, drop_gone: bool) -> None:
        house, catalog, topics = self._lakehouse, self._catalog, self._topics
        house.prepare(catalog.without_identities)
        if (gone := sorted({*house.names()} - catalog.tables.keys())) and (drop_gone or catalog.without_identities):
            for name in gone:
                house.discard(house.path / name)
            log.info("tables dropped", tables=gone)
        elif gone:
            warn_of_gone(gone)
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
        self._writer = Writer(catalog, rebuild.lakes(), topics.ids, house.where, gone_tables(house, catalog))
        log.info("following", database=house.name, schema=house.schema, tables=len(catalog.tables))

    def _start_reading(self) -> None:
        self._reader.start(self._writer.starts(self._topics.partitions))

    def _missed_tombstones(self) -> bool:
        at = self._lakehouse.complete_at()
        return at is not None and self._topics.may_miss_tombstones(time.time() - at)

    def _position(self, partition: TopicPartition) -> int | None:
        return self._writer.starts([partition])[partition]

    def _move(self, partition: TopicPartition, offset: int) -> None:
        self._patience.do(lambda: self._writer.move(partition, offset))

    def _write(self, records: list[ConsumerRecord]) -> None:
        begun = time.monotonic()

        def write() -> None:
            batch = self._writer.write(records)
            self._records += batch.records
            self._metrics.count(records, batch, time.monotonic() - begun)

        self._patience.do(write)

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
            self._start_reading()
            return
        self._lakehouse.note_complete(min(complete_at.values()))
        self._noted = now
        self._log_completion()

    def _end(self) -> None:
        """Leave files of deleted rows to `Lakehouse.tidy`: queries may have begun to read them."""
