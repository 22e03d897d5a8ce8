"""The rows without identities: intervals, hashes that join, ages, and what a tombstone removes."""

from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.tables import schema
from fhirline.streams.tables.batch import collect
from fhirline.streams.tables.catalog import Catalog, load_catalog
from fhirline.streams.tables.duck import DuckStore
from fhirline.streams.tables.without_identities.dates import oldest_year
from tests.support.cases import BASE
from tests.support.goldens import golden_resources, golden_resources_of
from tests.support.without_identities import KEY, OTHER_KEY, catalog_of, rows_of, settings_of

WITH = load_catalog(Settings(base=BASE))


def pairs(table: str, resources: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the rows of a table as they are, each beside itself without identities."""
    resources = list(resources)
    both = [
        [row for name, row in rows_of(catalog.only([table]), resources) if name == table]
        for catalog in (WITH, catalog_of())
    ]
    return list(zip(*both, strict=True))


def test_intervals_of_a_patient_stay_and_patients_move_by_other_days() -> None:
    moved: dict[str, set[int]] = defaultdict(set)
    for resource_type, table, columns in (
        ("Encounter", "encounter", ("period_start", "period_end")),
        ("Appointment", "appointment", ("starts", "ends", "created")),
        ("MedicationRequest", "medication_request", ("authored",)),
        ("Communication", "communication", ("sent",)),
    ):
        for row, hidden in pairs(table, golden_resources_of(resource_type)):
            for column in columns:
                if row[column] is not None and len(row[column]) > 10:
                    before, after = map(datetime.fromisoformat, (row[column], hidden[column]))
                    assert after.time() == before.time().replace(microsecond=0)
                    assert after.utcoffset() == before.utcoffset()
                    moved[row["patient_id"]].add((before.date() - after.date()).days)
    assert all(len(days) == 1 for days in moved.values()), "dates of one patient moved by different days"
    found = [days.pop() for days in moved.values()]
    assert all(1 <= days <= 365 for days in found)
    assert len(set(found)) > 1


def test_hashes_join_as_ids_do_and_differ_by_key() -> None:
    joined = [row for row in rows_of(catalog_of(), golden_resources()) if row[0] in ("patient", "encounter")]
    patients = {row["resource_id"] for name, row in joined if name == "patient"}
    assert {row["patient_id"] for name, row in joined if name == "encounter"} <= patients
    assert patients.isdisjoint(resource["id"] for resource in golden_resources_of("Patient"))
    others = {row["resource_id"] for name, row in rows_of(catalog_of(OTHER_KEY), golden_resources_of("Patient"))}
    assert patients.isdisjoint(others)


def test_a_birth_is_a_year_and_the_oldest_are_one_group() -> None:
    [this_year] = {datetime.now().year}
    born = {"resourceType": "Patient", "id": "p", "meta": {"source": "urn:x/a#b"}}
    shown = [
        row["birth_date"]
        for year in (1984, oldest_year(this_year) + 1, oldest_year(this_year), 1901)
        for name, row in rows_of(catalog_of(), [born | {"birthDate": f"{year}-02-03"}])
        if name == "patient"
    ]
    group = f"{oldest_year(this_year)} or earlier"
    assert shown == ["1984", str(oldest_year(this_year) + 1), group, group]


def test_years_only_cuts_all_dates() -> None:
    dates = {
        value
        for name, row in rows_of(catalog_of(dates="year"), golden_resources())
        for column, value in row.items()
        if column in ("period_start", "starts", "authored", "sent", "occurred", "received") and value is not None
    }
    assert dates
    assert all(len(value) == 4 for value in dates)


def test_an_age_over_89_is_no_measurement() -> None:
    def value_of(code: str, number: float) -> Any:
        observation = {
            "resourceType": "Observation",
            "id": "o",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": number},
        }
        [row] = [row for name, row in rows_of(catalog_of(), [observation]) if name == "observation"]
        return row["value_number"]

    assert (value_of("30525-0", 93), value_of("30525-0", 89), value_of("8867-4", 93)) == (None, 89, 93)


def record(resource_type: str, id: str, value: bytes | None, offset: int) -> ConsumerRecord:
    key = f"{resource_type}/{id}".encode()
    return ConsumerRecord(f"fhir.r4.{resource_type}", 0, offset, 1_700_000_000_000, key, value, [])


def apply(store: DuckStore, catalog: Catalog, records: list[ConsumerRecord]) -> None:
    for name, change in collect(records, catalog).changes.items():
        store.delete(change.table, change.ids, name)
        store.insert(change.table, change.rows, name)


@pytest.mark.long
def test_tombstones_and_updates_reach_the_rows(tmp_path: Path) -> None:
    """All resources twice, then all tombstones: no table has a row."""
    catalog = catalog_of()
    store = DuckStore(tmp_path / "hidden.duckdb", "without_identities")
    schema.prepare(store, True)
    schema.create_tables(store, catalog.tables.values())
    values = {(resource["resourceType"], resource["id"]): orjson.dumps(resource) for resource in golden_resources()}
    written = [record(*key, value, number) for number, (key, value) in enumerate(values.items())]
    apply(store, catalog, written)
    counts = {name: store.rows(f"select count(*) from {store.of(name)}")[0][0] for name in catalog.tables}
    apply(store, catalog, written)
    assert counts == {name: store.rows(f"select count(*) from {store.of(name)}")[0][0] for name in catalog.tables}
    assert counts["patient"] > 10
    apply(store, catalog, [record(*key, None, number) for number, key in enumerate(values, len(values))])
    assert [name for name in catalog.tables if store.rows(f"select 1 from {store.of(name)} limit 1")] == []
    store.close()


def test_a_schema_of_one_kind_is_refused_by_the_other(tmp_path: Path) -> None:
    """Whoever may read the tables without identities must never find others in their place."""
    for hidden, name in ((True, "without_identities"), (False, "normal")):
        store = DuckStore(tmp_path / f"{name}.duckdb", "s")
        schema.prepare(store, hidden)
        schema.prepare(store, hidden)
        with pytest.raises(ConfigurationError, match=f"has tables {'without' if hidden else 'with'} identities"):
            schema.prepare(store, not hidden)
        store.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"research_key": None}, "RESEARCH_KEY is not set"),
        ({"research_key": "short"}, "fewer than 32"),
        ({"research_schema": "fhir"}, "a schema of their own"),
    ],
)
def test_a_setting_that_would_hide_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_catalog(settings_of(**{"key": KEY} | {n.replace("research_key", "key"): v for n, v in changes.items()}))
    assert "short" not in str(refused.value)


def test_another_key_makes_all_tables_anew() -> None:
    mine, others = catalog_of().tables, catalog_of(OTHER_KEY).tables
    assert [name for name in mine if mine[name].digest == others[name].digest] == []
    years = catalog_of(dates="year").tables
    assert all(mine[name].digest != years[name].digest for name in mine)
