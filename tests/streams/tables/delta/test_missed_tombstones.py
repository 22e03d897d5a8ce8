"""Tombstones that a lakehouse may have missed: it stood still for longer than Kafka keeps them."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from fhirline.config.settings import Settings
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.delta.lakehouse import NEW
from fhirline.streams.tables.delta.rebuilding import LakeRebuild
from fhirline.streams.tables.open_store import open_lakehouse
from fhirline.streams.tables.source import Reader
from fhirline.streams.tables.store import Stopped
from fhirline.streams.tables.topics import read_topics
from tests.streams.tables.test_changes import folder_with, one_more
from tests.support.lakehouse import keep_lake, lake_wrong
from tests.support.tables import published, write

pytestmark = pytest.mark.long

MOST = 900
"""Records of a test: the last of the golden cases, where patients have names."""


def test_who_may_have_missed_tombstones_rebuilds_all(lake: Settings) -> None:
    """Rows of a patient whose tombstone compaction has removed meanwhile: no record tells of them any more."""
    write(lake, published(lake)[:400])
    keep_lake(lake)
    house = open_lakehouse(lake)
    add_gone_row(house.path / "patient")
    house.note_complete(time.time() - 30 * 3600)
    assert lake_wrong(lake) != {}
    keep_lake(lake)
    assert lake_wrong(lake) == {}


def test_outcomes_of_an_erased_patient_whose_tombstones_were_missed_go(lake: Settings) -> None:
    """Retention has deleted the null values of the outcomes, and compaction the tombstone of the Provenance."""
    write(lake, published(lake)[-MOST:])
    keep_lake(lake)
    house = open_lakehouse(lake)
    for type in ("Provenance", "OperationOutcome"):
        add_row(house.path / "record", resource_type=type, **gone(type))
    add_row(house.path / "event_flag", **gone("OperationOutcome"))
    house.note_complete(time.time() - 30 * 3600)
    assert {*lake_wrong(lake)} >= {"record", "event_flag"}
    keep_lake(lake)
    assert lake_wrong(lake) == {}


def gone(type: str) -> dict[str, str]:
    return {"record_key": f"{type}/gone", "resource_id": "gone", "vendor": "v", "tenant": "t", "event_key": "gone"}


def stopped_rebuild(lake: Settings) -> Path:
    """Leave a table in ``_new`` that has the row of an erased patient, as a rebuild does that was killed long ago."""
    work = LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), read_topics(lake), stopping=lambda: True)
    with pytest.raises(Stopped):
        work.of_views(["patient"])
    left = open_lakehouse(lake).path / NEW / "patient"
    add_gone_row(left)
    return left


def add_gone_row(path: Path) -> None:
    """Add the row of a patient whose tombstone compaction has removed: no record tells of it any more."""
    add_row(path, **{DeltaTable(path).schema().fields[0].name: "gone"})


def add_row(path: Path, **values: str) -> None:
    """Add a copy of a table's first row, with other values in these columns, as far as the table has them."""
    delta = DeltaTable(path)
    row = delta.to_pyarrow_table().slice(0, 1)
    assert row.num_rows == 1
    for name in values.keys() & {*row.column_names}:
        at = row.column_names.index(name)
        row = row.set_column(at, row.schema.field(at), [[values[name]]])
    write_deltalake(delta, row, mode="append")


def test_who_may_have_missed_tombstones_uses_nothing_of_a_killed_rebuild(lake: Settings) -> None:
    write(lake, published(lake)[:400])
    keep_lake(lake)
    stopped_rebuild(lake)
    open_lakehouse(lake).note_complete(time.time() - 30 * 3600)
    keep_lake(lake)
    assert lake_wrong(lake) == {}


def test_a_rebuild_goes_on_with_no_table_that_may_have_missed_tombstones(lake: Settings) -> None:
    """The tables themselves have missed none: they were kept, by other views maybe, since the rebuild was killed."""
    write(lake, published(lake)[:400])
    keep_lake(lake)
    stopped_rebuild(lake)
    topics = replace(read_topics(lake), tombstone_seconds=0.0)
    LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), topics).of_views(["patient"])
    assert lake_wrong(lake) == {}


def test_what_a_killed_rebuild_left_is_removed_where_nothing_is_to_be_rebuilt(lake: Settings) -> None:
    house = open_lakehouse(lake)
    keep_lake(lake)
    for _ in range(2):  # before the first record, and after it
        left = house.path / NEW
        left.mkdir()
        keep_lake(lake)
        assert not left.exists()
        write(lake, published(lake)[:100])


def test_tombstones_may_be_missed_before_the_tables_are_complete_for_the_first_time(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed before it has read everything, and starts again days later."""
    write(lake, published(lake)[:400])
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Reader, "complete_at", lambda _: None)
        keep_lake(lake)
    house = open_lakehouse(lake)
    add_gone_row(house.path / "patient")
    days_later = time.time() + 3 * 86_400
    monkeypatch.setattr(time, "time", lambda: days_later)
    keep_lake(lake)
    assert lake_wrong(lake) == {}


def test_tables_of_gone_views_lose_the_rows_whose_tombstones_were_missed(lake: Settings, tmp_path: Path) -> None:
    views = folder_with(tmp_path / "views", people=one_more)
    write(lake, published(lake)[:400])
    keep_lake(lake.model_copy(update={"tables_views": views}))
    people = open_lakehouse(lake).path / "people"
    before = DeltaTable(people).to_pyarrow_table().num_rows
    add_gone_row(people)
    keep_lake(lake)
    assert DeltaTable(people).to_pyarrow_table().num_rows == before + 1
    open_lakehouse(lake).note_complete(time.time() - 30 * 3600)
    keep_lake(lake)
    ids = DeltaTable(people).to_pyarrow_table().column(0).to_pylist()
    assert (len(ids), "gone" in ids) == (before, False)
