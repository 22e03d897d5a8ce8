"""The tables that no view makes, on the records of all golden cases."""

from dataclasses import replace
from pathlib import Path

from fhirline.streams.tables import schema
from fhirline.streams.tables.batch import collect
from fhirline.streams.tables.built_in import BUILT_IN, EVENT, EVENT_COLUMNS
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.duck import DuckStore
from tests.support.kafka.brokers import settings_for
from tests.support.tables import published

WRITTEN = 1_738_569_600_000


def test_every_column_has_a_value_somewhere_and_no_empty_text(tmp_path: Path) -> None:
    """Either of the two tables, or the view over them, has the value."""
    settings = settings_for("127.0.0.1:9")
    records = [
        replace(record.at(record.partition or 0, number), timestamp_ms=WRITTEN)
        for number, record in enumerate(published(settings))
    ]
    changes = collect(records, load_catalog(settings)).changes
    store = DuckStore(tmp_path / "tables.duckdb", "fhir")
    try:
        schema.prepare(store)
        schema.create_tables(store, BUILT_IN)
        for table in BUILT_IN:
            store.insert(table, changes[table.name].rows)
        columns = {table.name: [column.name for column in table.columns] for table in BUILT_IN}
        columns[EVENT] = [*EVENT_COLUMNS]
        assert store.rows(f"select count(*) > 100 from fhir.{EVENT}") == [(True,)]
        for condition, least in (("is not null", 1), ("= ''", 0)):
            found = {
                f"{table}.{column} {condition}": store.rows(
                    f"select count(*) from fhir.{table} where cast({column} as varchar) {condition}"
                )[0][0]
                for table, names in columns.items()
                for column in names
            }
            assert [name for name, count in found.items() if (count > 0) != bool(least)] == []
    finally:
        store.close()
