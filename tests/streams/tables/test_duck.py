"""DuckDB as a store: transactions, positions by compare-and-set, and a file that keeps nothing of what was deleted."""

from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables import schema
from fhirline.streams.tables.built_in import BUILT_IN, EVENT_FLAG
from fhirline.streams.tables.duck import DuckStore
from fhirline.streams.tables.positions import Move, move, read_positions
from fhirline.streams.tables.store import OtherWriter

PLACE, OTHER = TopicPartition("fhir.r4.Patient", 0), TopicPartition("fhir.r4.Patient", 1)


@pytest.fixture
def store(tmp_path: Path) -> DuckStore:
    made = DuckStore(tmp_path / "t.duckdb", "fhir")
    schema.prepare(made)
    schema.create_tables(made, BUILT_IN)
    return made


def test_positions_move_only_from_where_they_are_known(store: DuckStore) -> None:
    """One wrong one of several: none of the transaction stays, and neither do its rows."""
    move(store, {PLACE: Move(None, 10), OTHER: Move(None, 5)}, {})
    for moves in ({PLACE: Move(10, 12), OTHER: Move(4, 9)}, {PLACE: Move(None, 12)}):
        with pytest.raises(OtherWriter, match="another process has moved"):
            insert_and_move(store, moves)
    assert read_positions(store) == {PLACE: 10, OTHER: 5}
    assert store.rows("select count(*) from fhir.event_flag") == [(0,)]
    move(store, {PLACE: Move(10, 12), OTHER: Move(5, 9)}, {})
    assert read_positions(store) == {PLACE: 12, OTHER: 9}


def insert_and_move(store: DuckStore, moves: dict[TopicPartition, Move]) -> None:
    with store.transaction():
        store.insert(EVENT_FLAG, [("Patient/a", 1, "tag", "v", "t", "k", "f", None, None)])
        move(store, moves, {})


def test_the_rewritten_file_has_all_but_the_deleted(store: DuckStore) -> None:
    """Comments, keys and the view ``event`` too."""
    mark, kept = "d" + "0123456789abcdef" * 3, "k" + "fedcba9876543210" * 3
    rows = [(f"Patient/{name}", 1, "tag", "v", "t", name, "f", None, None) for name in (mark, kept)]
    store.insert(EVENT_FLAG, rows)
    store.delete(EVENT_FLAG, [f"Patient/{mark}"])
    store.run("checkpoint")
    file = Path(store.name.removeprefix("duckdb:"))
    described = "select table_name, column_name, comment from duckdb_columns() where schema_name = 'fhir' order by all"
    before = store.rows(described)
    assert mark.encode() in file.read_bytes(), "the file forgets by itself: this test shows nothing"
    store.erase_deleted_bytes()
    assert store.rows("select event_key from fhir.event_flag") == [(kept,)]
    assert store.rows(described) == before
    store.close()
    content = file.read_bytes()
    assert mark.encode() not in content
    assert kept.encode() in content
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.stat().st_mode & 0o077 == 0


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database" * 1000)
    with pytest.raises(ConfigurationError, match="is no DuckDB database file"):
        DuckStore(path, "fhir")
    with pytest.raises(ConfigurationError, match="another name"):
        DuckStore(tmp_path / "fhir.duckdb", "fhir")
    with pytest.raises(ConfigurationError, match="no such file"):
        DuckStore(tmp_path / "none", "fhir", read_only=True)
