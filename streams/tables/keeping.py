"""The loop that keeps tables, whether a database has them or a lakehouse: read, write, look after.

The two differ in how a batch is committed and in what is prepared, and have that in `follower` and `delta.keeper`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, Lag, TopicPartition
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.patience import Patience
from fhirline.streams.tables.source import OutOfRange, Reader
from fhirline.streams.tables.store import Stopped
from fhirline.streams.tables.topics import Topics, made_anew
from fhirline.topics.declared import OUTCOME

log = structlog.get_logger("tables")


class Keeper(ABC):
    """Keeps tables. Blocking: it has a thread of its own. ``stopping``: asked between batches.

    ``until_end``: ends when all topics were read to their ends. ``where``: the tables' place, for messages.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        topics: Topics,
        metrics: TablesMetrics,
        stopping: Callable[[], bool],
        until_end: bool,
        where: str,
        reader: Reader,
        patience: Patience,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._topics = topics
        self._metrics = metrics
        self._stopping = stopping
        self._until_end = until_end
        self._where = where
        self._reader = reader
        self._patience = patience
        self._within = settings.tables_within
        self._records = 0
        self._noted = float("-inf")
        self.following = False
        self.complete = False
        """True once this process has read its partitions to their ends."""

    def lags(self) -> list[Lag]:
        return self._reader.lags() if self.following else []

    def problems(self) -> list[str]:
        """Return why the tables are not being kept."""
        if self._patience.problem:
            return [self._patience.problem]
        return [] if self.following else ["the tables are being prepared"]

    def run(self, drop_gone: bool = False) -> None:
        """Keep the tables until stopped.

        Raises OtherWriter, UnfitRows, KafkaAccessError and ConfigurationError.
        """
        try:
            self._patience.do(lambda: self._prepare(drop_gone))
            self._start_reading()
            self.following = True
            while not self._stopping():
                if records := self._read():
                    self._write(records)
                self._patience.do(self._look_after)
                if self._until_end and not records and self._reader.at_end:
                    break
            self._patience.do(self._end)
        except Stopped:
            return
        finally:
            self.following = False
            self._reader.close()

    @abstractmethod
    def _prepare(self, drop_gone: bool) -> None:
        """Bring the tables to what the views define. May be repeated."""

    @abstractmethod
    def _start_reading(self) -> None:
        """Read on from the positions."""

    @abstractmethod
    def _write(self, records: list[ConsumerRecord]) -> None:
        """Commit the rows of records and the positions behind them."""

    @abstractmethod
    def _look_after(self) -> None:
        """Do the periodic work that is due. Called after each batch, and while none arrives. May be repeated."""

    @abstractmethod
    def _position(self, partition: TopicPartition) -> int | None:
        """Return the next offset to be read; None where nothing was read."""

    @abstractmethod
    def _move(self, partition: TopicPartition, offset: int) -> None:
        """Move a position without rows."""

    @abstractmethod
    def _end(self) -> None:
        """Do the work that is due before the process ends. May be repeated."""

    def _read(self) -> list[ConsumerRecord]:
        settings = self._settings
        try:
            return self._reader.read(settings.tables_batch, settings.tables_batch_bytes, self._within, self._until_end)
        except OutOfRange as error:
            self._skip_deleted(error.partition)
            return []

    def _skip_deleted(self, partition: TopicPartition) -> None:
        """Read on at the first record of a partition of outcomes, whose older ones retention has deleted.

        Raises ConfigurationError for every other partition: a compacted topic has all offsets from its beginning on.
        """
        first, end = self._reader.range(partition)
        position = self._position(partition) or 0
        if partition.topic != OUTCOME or position > end:
            raise ConfigurationError(made_anew(partition.topic, 1, self._where))
        log.warning(
            "outcomes were deleted before they were read",
            partition=str(partition),
            records=first - position,
            remedy="fhirline replay --publish --outcomes writes them again (docs/warehouse.md)",
        )
        self._move(partition, first)
        self._start_reading()

    def _log_completion(self) -> None:
        """Log that the partitions were read to their ends, the first time."""
        if not self.complete:
            self.complete = True
            log.info("complete", records=self._records)


def warn_of_gone(tables: Collection[str]) -> None:
    log.warning(
        "tables of views that are gone are kept, without new rows; those of erased patients are deleted",
        tables=sorted(tables),
        remedy="drop them with --drop-gone, or bring the views back",
    )
