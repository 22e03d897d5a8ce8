"""Commits of records to tables. Each table takes the records that it does not have.

Tables of one batch are committed one after the other, and a process may be killed between any two. Then their positions
differ. Reading continues at the least position, and each table skips the records that it has.

``record`` is always the last. The resources that it loses are also deleted from the tables of gone views, which have no
positions of their own. If a kill left it ahead of them, nothing would lead to their rows any more.
"""

from collections.abc import Iterable, Mapping, Sequence

import structlog
from deltalake import DeltaTable

from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.tables.batch import Batch, Change, collect
from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.delta.lake_table import Conflict, LakeTable, delete_rows
from fhirline.streams.tables.store import OtherWriter, StoreUnavailable

log = structlog.get_logger("tables")


class Writer:
    """Writes batches to tables. ``topics``: topic → id. ``gone``: tables of no view, from which the erased go."""

    def __init__(
        self,
        catalog: Catalog,
        lakes: Iterable[LakeTable],
        topics: Mapping[str, str],
        where: str,
        gone: Sequence[DeltaTable] = (),
    ) -> None:
        self._catalog = catalog
        self._lakes = sorted(lakes, key=lambda lake: lake.table == RECORD)
        self._topics = topics
        self._where = where
        self._gone = gone
        self._uncertain = False

    def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Return the least position of each partition; None where a table has read nothing of it."""
        found: dict[TopicPartition, int | None] = {}
        for partition in partitions:
            known = [lake.positions.get(partition) for lake in self._lakes if partition in lake.partitions]
            found[partition] = None if None in known else min((at for at in known if at is not None), default=None)
        return found

    def write(self, records: Sequence[ConsumerRecord]) -> Batch:
        """Write a batch, and return what the table that was furthest behind has taken. May be repeated.

        Raises OtherWriter, StoreUnavailable and UnfitRows.
        """
        ends = {record.topic_partition: record.offset + 1 for record in records}
        largest = Batch()
        for names, left in self._shares(records):
            batch = collect(left, self._catalog.only(names))
            for lake in self._lakes:  # `record` is the last, and its share the last
                if lake.table.name in names:
                    change = batch.changes.get(lake.table.name) or Change(lake.table)
                    self._commit(lake, change, self._moves(lake, ends))
            if batch.records >= largest.records:
                largest = batch
        self._uncertain = False
        return largest

    def move(self, partition: TopicPartition, offset: int) -> None:
        """Move the position of a partition in all tables, without rows."""
        for lake in self._lakes:
            if moves := self._moves(lake, {partition: offset}):
                self._commit(lake, Change(lake.table), moves)

    def _shares(self, records: Sequence[ConsumerRecord]) -> list[tuple[list[str], list[ConsumerRecord]]]:
        """Group tables by the records that they lack. The group with ``record`` comes last.

        Except after a kill, all tables lack all of them.
        """
        first: dict[TopicPartition, int] = {}
        for record in records:
            first.setdefault(record.topic_partition, record.offset)
        shares: dict[tuple[tuple[TopicPartition, int], ...], list[str]] = {}
        for lake in self._lakes:
            ahead = tuple(
                (partition, at)
                for partition, offset in sorted(first.items())
                if (at := lake.positions.get(partition, 0)) > offset and partition in lake.partitions
            )
            shares.setdefault(ahead, []).append(lake.table.name)
        found = [
            (names, [item for item in records if item.offset >= dict(ahead).get(item.topic_partition, 0)])
            for ahead, names in shares.items()
        ]
        return sorted(found, key=lambda share: RECORD.name in share[0])

    def _moves(self, lake: LakeTable, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {
            partition: end
            for partition, end in ends.items()
            if partition in lake.partitions and end > lake.positions.get(partition, -1)
        }

    def _commit(self, lake: LakeTable, change: Change, moves: Mapping[TopicPartition, int]) -> None:
        """Commit to a table, unless that is done. Raises OtherWriter where its positions are not what they were."""
        if self._uncertain:  # the last attempt failed with an unknown result
            newest = lake.newest()
            if newest.positions != lake.positions:
                if newest.positions != {**lake.positions, **moves}:
                    raise self._other(lake)
                lake.positions = newest.positions
                moves = {}
            lake.delta = newest.delta
        if lake.table == RECORD:
            self._delete_from_gone(change)
        while moves:
            log.debug("commit", table=lake.table.name, rows=len(change.rows))
            try:
                lake.commit(change.ids, change.rows, moves, self._topics)
            except StoreUnavailable:
                self._uncertain = True
                raise
            except Conflict:
                newest = lake.newest()
                if newest.positions != lake.positions or not newest.is_current:
                    raise self._other(lake) from None
                lake.delta = newest.delta  # compaction came between, which changes no rows
                continue
            log.debug("committed", table=lake.table.name, rows=len(change.rows))
            break

    def _other(self, lake: LakeTable) -> OtherWriter:
        return OtherWriter(
            f"{self._where}: another process has moved the positions of table {lake.table.name}: only one `fhirline "
            "tables` may keep the same tables. Nothing was written; end the other one, or this one"
        )

    def _delete_from_gone(self, change: Change) -> None:
        """Delete the rows of erased resources from tables that get no rows any more, before ``record`` loses them."""
        living = {row[0] for row in change.rows}
        erased = [key.partition("/")[2] for key in change.ids if key not in living]
        for delta in self._gone if erased else ():
            delete_rows(delta, erased)
