"""Records that no worker writes, and values that no index takes: the tables hold what can be held, and go on."""

import random
import string
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import EVENT_KEY, OCCURRED_AT, Headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.tables.batch import Batch, UnfitRows, collect
from fhirline.streams.tables.catalog import Catalog, load_catalog
from fhirline.streams.tables.instants import is_instant, loaded_instant
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.rebuild import Rebuild
from tests.support.kept_tables import in_database, wrong
from tests.support.paths import CONFIG
from tests.support.tables import keep, published, write

FLAGS = "https://example.org/flags"


def collected(*records: ConsumerRecord) -> Batch:
    return collect(records, Catalog([], FLAGS))


def record(key: bytes | None, topic: str = "fhir.r4.Patient", headers: Headers | None = None, **more: Any) -> Any:
    type_name, _, id = (key or b"").decode("utf-8", "replace").partition("/")
    value = orjson.dumps({"resourceType": type_name, "id": id, **more})
    return ConsumerRecord(topic, 0, 7, 1_700_000_000_000, key, value, headers or [])


@pytest.mark.parametrize(
    "more",
    [
        {"meta": "x"},
        {"meta": {"tag": "x"}},
        {"meta": {"tag": ["x", {"system": FLAGS, "code": {}}, {"system": FLAGS}]}},
        {"meta": {"tag": {"system": FLAGS, "code": "a"}}},
    ],
)
def test_tags_of_another_shape_are_no_flags(more: dict[str, Any]) -> None:
    assert collected(record(b"Patient/a", **more)).changes["event_flag"].rows == []


@pytest.mark.parametrize(
    ("issue", "rows"),
    [
        ("x", []),
        (["x"], []),
        ([{"details": "x"}], []),
        ([{"details": {"coding": ["x"]}}], []),
        (
            [{"severity": 5, "expression": "x", "details": {"coding": [{"system": FLAGS, "code": "a\0b"}]}}],
            [("OperationOutcome/a", 1, "issue", None, None, None, "ab", None, None)],
        ),
    ],
)
def test_issues_of_another_shape_are_no_flags(issue: Any, rows: list[Any]) -> None:
    outcome = record(b"OperationOutcome/a", "normalizer.outcome", issue=issue)
    assert collected(outcome).changes["event_flag"].rows == rows


@pytest.mark.parametrize("value", [b"", b"yesterday", b"2024", b"2024-02-30T10:00:00Z", b"2024-02-01T10:00:00"])
def test_a_header_that_is_no_time_is_none(value: bytes) -> None:
    [row] = collected(record(b"Patient/a", headers=[(OCCURRED_AT, value)])).changes["record"].rows
    assert row[-1] is None


def test_a_long_header_is_cut() -> None:
    [row] = collected(record(b"Patient/a", headers=[(EVENT_KEY, b"k" * 9000)])).changes["record"].rows
    assert max(len(value) for value in row if isinstance(value, str)) == 600


@pytest.mark.parametrize("key", [b"", b"\xff\xfe", b"Encounter/a", b"Patient/" + b"a" * 9000, None])
def test_a_key_that_is_none_of_its_topic_has_no_rows(key: bytes | None) -> None:
    """One that two topics have would have two rows with one key, which no database takes."""
    batch = collected(record(key))
    assert (batch.changes, batch.unreadable) == ({}, ["fhir.r4.Patient/0/7"])


def test_keys_that_are_one_in_the_database_have_one_row() -> None:
    rows = collected(record(b"Patient/a\0b"), record(b"Patient/ab"), record(b"Patient/\xff"), record(b"Patient/\xfe"))
    assert [row[0] for row in rows.changes["record"].rows] == ["Patient/ab", "Patient/\ufffd"]


@pytest.mark.parametrize(
    ("written", "loaded"),
    [
        ("2024-02-29T10:00:00.1234567Z", "2024-02-29T10:00:00.1234567Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59Z"),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T10:00:00+15:00", None),
        ("0000-01-01T00:00:00Z", None),
        ("2024-01-01T10:00Z", None),
        ("٢٠٢٤-01-01T10:00:00Z", None),
        ("", None),
    ],
)
def test_an_instant_is_what_every_database_reads(written: str, loaded: str | None) -> None:
    assert (loaded_instant(written), is_instant(written)) == (loaded, loaded is not None)


def with_identifier(records: Iterable[ProducerRecord], length: int) -> ProducerRecord:
    """Return a Patient with an identifier of so many random characters, which no compression makes short."""
    patient = next(item for item in records if item.topic == "fhir.r4.Patient")
    long = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=length))
    value = {**orjson.loads(patient.value or b""), "identifier": [{"system": "urn:x", "value": long}]}
    return replace(patient, value=orjson.dumps(value))


@pytest.mark.long
@pytest.mark.parametrize("length", [3_000, 9_000])
def test_a_value_that_no_index_takes_costs_the_index_and_no_row(kept: Settings, length: int) -> None:
    """PostgreSQL's indexes take 2,700 bytes after compression; FHIR's texts have a million."""
    records = published(kept)
    write(kept, records)
    keep(kept)
    write(kept, [with_identifier(records, length)])
    for statement in ("select 1", "update fhir._tables set digest = 'x' where name = 'patient'"):
        in_database(kept, statement, "select 1")
        keep(kept)
        assert wrong(kept) == {}


@pytest.mark.long
@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_a_value_that_no_key_takes_ends_it_with_what_to_do(kept: Settings, tmp_path: Path) -> None:
    """While it follows the topics, and where it fills a new table: it must not wait for a database that answers."""
    view = {
        "resourceType": "https://sql-on-fhir.org/ig/StructureDefinition/ViewDefinition",
        "name": "patient_identifier",
        "resource": "Patient",
        "status": "active",
        "select": [
            {"column": [{"name": "resource_id", "path": "getResourceKey()"}]},
            {
                "forEach": "identifier",
                "column": [
                    {"name": "value", "path": "value", "tag": [{"name": "fhirline/primary-key", "value": "2"}]},
                ],
            },
        ],
    }
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "patient_identifier.json").write_bytes(orjson.dumps(view))
    own = kept.model_copy(update={"tables_views": tmp_path / "views"})
    records = published(kept)
    write(kept, records)
    keep(own)
    write(kept, [with_identifier(records, 9_000)])
    for statement in ("select 1", "drop table fhir.patient_identifier"):
        in_database(kept, statement, "select 1")
        with pytest.raises(ConfigurationError, match=r"patient_identifier: .*tag other columns as the view's key"):
            keep(own)


@pytest.mark.long
def test_the_last_moment_and_the_first_are_in_both_databases(kept: Settings) -> None:
    records = published(kept)
    write(kept, records)
    appointment = next(item for item in records if item.topic == "fhir.r4.Appointment")
    moments = {"start": "0001-01-01T00:00:00Z", "end": "2016-12-31T23:59:60Z"}
    value = {**orjson.loads(appointment.value or b""), **moments}
    write(kept, [replace(appointment, value=orjson.dumps(value))])
    keep(kept)
    [(starts, ends)] = in_database(
        kept,
        "set time zone 'UTC'",
        "select cast(starts as varchar), cast(ends as varchar) from fhir.appointment where ends < '2020-01-01'",
    )
    assert (starts, ends) == ("0001-01-01 00:00:00+00", "2017-01-01 00:00:00+00")


def with_two_texts(patient: ProducerRecord) -> ProducerRecord:
    """Return a Patient whose birth date is a list, which FHIR never has."""
    value = {**orjson.loads(patient.value or b""), "birthDate": ["1980-01-01", "1981-01-01"]}
    return replace(patient, value=orjson.dumps(value))


@pytest.mark.long
@pytest.mark.parametrize("remedy", ["corrected", "tombstone", "left out"])
def test_a_resource_that_no_view_fits_can_be_got_past(kept: Settings, tmp_path: Path, remedy: str) -> None:
    """Each way that docs/warehouse.md tells: without one of them, each start ends the same way."""
    records = published(kept)
    write(kept, records)
    keep(kept)
    patient = next(item for item in records if item.topic == "fhir.r4.Patient")
    write(kept, [with_two_texts(patient), *records[::3]])
    small = kept.model_copy(update={"tables_batch": 1})
    for _ in range(2):
        with pytest.raises(UnfitRows, match=r"view patient: column birth_date: 2 values.*A resource that a view does"):
            keep(small)
    if remedy == "left out":
        view = orjson.loads((CONFIG / "views" / "patient.json").read_bytes())
        view["where"] = [{"path": f"getResourceKey() != '{patient.key.decode().partition('/')[2]}'"}]
        (tmp_path / "views").mkdir()
        (tmp_path / "views" / "patient.json").write_bytes(orjson.dumps(view))
        own = small.model_copy(update={"tables_views": tmp_path / "views", "tables_batch": 500})
        keep(own)
        assert wrong(own) == {}
    else:
        write(kept, [patient if remedy == "corrected" else replace(patient, value=None)])
        with pytest.raises(UnfitRows):
            keep(small)
        keep(kept.model_copy(update={"tables_batch": 1_000_000, "tables_within": 60.0}))
        assert wrong(kept) == {}


@pytest.mark.long
@pytest.mark.parametrize("kept", ["postgresql"], indirect=True)
def test_a_rebuild_drops_an_index_that_does_not_take_what_came_meanwhile(kept: Settings) -> None:
    """In its last transaction, which reads what was committed since it began; the indexes are there by then."""
    records = published(kept)
    write(kept, records)
    keep(kept)
    store = open_store(kept)

    class Late(Rebuild):
        def _load(self, *read: Any) -> None:
            super()._load(*read)
            if not read_on:
                read_on.append(True)
                write(kept, [with_identifier(records, 9_000)])
                keep(kept)

    read_on: list[bool] = []
    try:
        Late(kept, store, load_catalog(kept).only(["patient"])).of_views()
    finally:
        store.close()
    assert wrong(kept) == {}
    assert in_database(
        kept, "select count(*) from pg_indexes where tablename = 'patient' and indexdef like '%(identifier)%'"
    ) == [(0,)]
