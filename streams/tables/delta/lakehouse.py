"""The folder of the lakehouse: FOLDER/schema/table, and what is known of the tables as a whole.

``_state`` is a Delta table without rows. Its transaction identifiers are the layout, whether the tables are those
without identities, and when all topics had last been read to their ends. ``_new`` has tables that are being rebuilt.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import private_folder
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables.catalog import OUTCOMES, Catalog
from fhirline.streams.tables.delta.lake_table import PROPERTIES, Conflict, LakeTable, created, errors, opened
from fhirline.streams.tables.rebuild import topics_of
from fhirline.streams.tables.store import StoreUnavailable
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.topics import Topics
from fhirline.topics.declared import canonical_topic

LAYOUT = 1
STATE, NEW, DISCARDED = "_state", "_new", "_discarded"
LAYOUT_ID, HIDDEN_ID, COMPLETE_ID = "fhirline.layout", "fhirline.without-identities", "fhirline.complete-at"
STATE_SCHEMA = pa.schema([pa.field("nothing", pa.string())])

KEEP_HOURS = 1
"""Hours for which files of deleted rows are kept for queries that have begun to read them."""

TRIES = 5


class Lakehouse:
    """The tables of one schema in a folder of this machine."""

    def __init__(self, folder: Path, schema: str) -> None:
        self.folder = folder
        self.schema = schema
        self.path = folder / schema

    @property
    def name(self) -> str:
        return f"delta:{self.folder}"

    @property
    def where(self) -> str:
        return f"{self.name}, schema {self.schema}"

    def prepare(self, without_identities: bool = False) -> None:
        """Create the folder where it is missing. Raises ConfigurationError where others' tables are in it."""
        try:
            private_folder(self.folder)
        except OSError as error:
            raise ConfigurationError(f"FHIRLINE_TABLES_URL: {self.folder}: {error.strerror}") from None
        if self.state() is None:
            with errors(STATE):
                DeltaTable.create(
                    self.path / STATE,
                    STATE_SCHEMA,
                    description="What is known of the tables as a whole; internal",
                    configuration={**PROPERTIES, "delta.logRetentionDuration": "interval 1 days"},
                    commit_properties=CommitProperties(
                        app_transactions=[
                            Transaction(LAYOUT_ID, LAYOUT),
                            Transaction(HIDDEN_ID, int(without_identities)),
                            Transaction(COMPLETE_ID, int(time.time())),  # of nothing, no tombstone was missed
                        ]
                    ),
                )
        state = self.state()
        if state is None or (layout := state.transaction_version(LAYOUT_ID)) != LAYOUT:
            found = "none" if state is None else layout
            raise ConfigurationError(
                f"FHIRLINE_TABLES_URL: {self.where} has layout {found}, this release {LAYOUT}: use the release that "
                "made it, or another schema"
            )
        if state.transaction_version(HIDDEN_ID) != int(without_identities):
            kind = "with" if without_identities else "without"
            raise ConfigurationError(
                f"FHIRLINE_TABLES_URL: schema {self.schema} has tables {kind} identities: name another schema, by "
                "FHIRLINE_TABLES_SCHEMA, or by FHIRLINE_RESEARCH_SCHEMA for those without identities"
            )

    def state(self) -> DeltaTable | None:
        """Open ``_state``; None where there are no tables yet."""
        with errors(STATE):
            try:
                return DeltaTable(self.path / STATE)
            except TableNotFoundError:
                return None

    def complete_at(self) -> float | None:
        """Return when all topics had last been read to their ends, in UNIX seconds; before that, the first start."""
        state = self.state()
        return None if state is None else state.transaction_version(COMPLETE_ID)

    def note_complete(self, at: float) -> None:
        for _ in range(TRIES):
            state = self.state()
            if state is None:
                break
            noted = CommitProperties(app_transactions=[Transaction(COMPLETE_ID, int(at))], max_commit_retries=0)
            try:
                with errors(STATE):
                    write_deltalake(state, STATE_SCHEMA.empty_table(), mode="append", commit_properties=noted)
            except Conflict:
                continue
            return
        raise StoreUnavailable(f"{self.where}: {STATE} could not be written")

    def names(self) -> list[str]:
        """Return the tables that are there."""
        if not self.path.is_dir():
            return []
        return sorted(
            path.name
            for path in self.path.iterdir()
            if not path.name.startswith("_") and (path / "_delta_log").is_dir()
        )

    def open(self, table: Table, partitions: Iterable[TopicPartition]) -> LakeTable | None:
        return opened(self.path / table.name, table, relevant(table, partitions))

    def create(self, table: Table, partitions: Iterable[TopicPartition]) -> LakeTable:
        return created(self.path / table.name, table, relevant(table, partitions))

    def open_new(self, table: Table, topics: Topics) -> LakeTable:
        """Open a table that is being rebuilt; begin it anew where it is of another definition or of other topics.

        One that may have missed tombstones of what it has read is begun anew too.
        """
        path = self.path / NEW / table.name
        partitions = relevant(table, topics.partitions)
        found = opened(path, table, partitions)
        usable = found is not None and found.is_current and not found.other_topics(topics.ids)
        if found is not None and usable and not topics.may_miss_tombstones(found.age()):
            return found
        self.discard(path)
        return created(path, table, partitions)

    def discard(self, path: Path) -> None:
        """Remove a table or folder of tables. Its name is gone at once, whenever the process is killed."""
        gone = self.path / DISCARDED
        shutil.rmtree(gone, ignore_errors=True)
        if path.exists():
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def tidy(self, keep_hours: int = KEEP_HOURS, compact: bool = True) -> int:
        """Merge small files, and delete those that no version of the last hours has; return how many were deleted.

        Files that a killed process wrote and did not commit go too.
        """
        return sum(self._tidy(name, keep_hours, compact) for name in self.names())

    def _tidy(self, name: str, keep_hours: int, compact: bool) -> int:
        for _ in range(TRIES):
            try:
                with errors(name):
                    delta = DeltaTable(self.path / name)
                    if compact:
                        delta.optimize.compact()
                    gone = delta.vacuum(keep_hours, dry_run=False, enforce_retention_duration=False, full=True)
            except Conflict:  # a batch came between
                continue
            return len(gone)
        raise StoreUnavailable(f"{self.where}: table {name} is being written all the time: try again")


def relevant(table: Table, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Return the partitions that a table reads.

    One of OperationOutcomes has positions of Provenances too, which earlier releases read for it.
    """
    wanted = topics_of([table])
    if table.resource == OUTCOMES:
        wanted.add(canonical_topic("Provenance"))
    return [partition for partition in partitions if partition.topic in wanted]


def least_positions(
    house: Lakehouse, catalog: Catalog, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return how far each partition was read by the table that is furthest behind."""
    partitions = list(partitions)
    found: dict[TopicPartition, int] = {}
    for table in catalog.tables.values():
        lake = house.open(table, partitions)
        for partition in relevant(table, partitions):
            at = 0 if lake is None else lake.positions.get(partition, 0)
            found[partition] = min(found.get(partition, at), at)
    return found
