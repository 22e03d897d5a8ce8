"""Changes under the tables: views, topics, definitions, and patients who are erased."""

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import EVENT_KEY, TENANT, VENDOR, header
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.streams.operate.doctor import warehouse
from fhirline.streams.operate.doctor.finding import Level
from fhirline.streams.operate.status.reading import Ends
from fhirline.streams.operate.status.warehouse import read_tables
from fhirline.streams.tables import schema
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.positions import read_positions
from fhirline.streams.tables.rebuild import Rebuild
from fhirline.streams.tables.topics import read_topics
from fhirline.topics.declared import OUTCOME
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kept_tables import in_database, wrong
from tests.support.paths import CONFIG
from tests.support.postgres import Postgres
from tests.support.tables import keep, published, write

pytestmark = pytest.mark.long


def erased(records: list[ProducerRecord], patient: str) -> list[ProducerRecord]:
    """Return tombstones of a patient, of all that refers to the patient, and of the events' OperationOutcomes."""
    named = patient.encode()
    theirs = {record.key: record for record in records if named in record.key or named in (record.value or b"")}
    events = {_event(record) for record in theirs.values() if record.topic == "fhir.r4.Provenance"}
    theirs |= {record.key: record for record in records if record.topic == OUTCOME and _event(record) in events}
    return [replace(record, value=None) for record in theirs.values()]


def _event(record: ProducerRecord) -> tuple[str | None, ...]:
    return tuple(header(record.headers, name) for name in (VENDOR, TENANT, EVENT_KEY))


def test_rows_of_an_erased_patient_go_and_the_bytes_too(kept: Settings) -> None:
    """The patient's name is in the file before, and the rewritten file does not have it."""
    mark = secrets.token_hex(32)
    records = published(kept)
    found = next(
        record for record in records if record.topic == "fhir.r4.Patient" and b'"family"' in (record.value or b"")
    )
    patient = orjson.loads(found.value or b"")
    for name in patient["name"]:
        name["family"] = mark
    records.append(replace(found, value=orjson.dumps(patient)))
    write(kept, records)
    keep(kept)
    file = Path((kept.tables_url or "").removeprefix("duckdb:"))
    if file.is_file():
        assert mark.encode() in file.read_bytes()
    assert in_database(kept, f"select count(*) from fhir.patient where family = '{mark}'") == [(1,)]
    tombstones = erased(records, found.key.decode())
    assert len(tombstones) > 1
    write(kept, tombstones)
    keep(kept)
    assert wrong(kept) == {}
    ids = ", ".join(f"'{record.key.decode()}'" for record in tombstones)
    assert in_database(kept, f"select count(*) from fhir.record where record_key in ({ids})") == [(0,)]
    store = open_store(kept)
    try:  # the outcomes of the erased events are on their topic still
        Rebuild(kept, store, load_catalog(kept)).of_views()
        assert wrong(kept) == {}
        for batch in (kept.tables_batch, 7):  # outcome and null value in one batch, and in two
            small = kept.model_copy(update={"tables_batch": batch})
            Rebuild(small, store, load_catalog(kept)).of_everything(read_topics(kept))
            assert wrong(kept) == {}, "tables that are filled after the erasure have rows of erased events"
    finally:
        store.close()
    if file.is_file():
        assert [name for name in os.listdir(file.parent) if mark.encode() in (file.parent / name).read_bytes()] == []
    assert in_database(kept, "select erased from fhir._state") == [(False,)]


def folder_with(path: Path, **changes: Any) -> Path:
    """Make a folder with the view ``patient`` changed, and with new ones. A change is made in the document."""
    path.mkdir(exist_ok=True)
    for name, change in changes.items():
        document = orjson.loads((CONFIG / "views" / "patient.json").read_bytes())
        document["name"] = name
        change(document["select"][0]["column"])
        (path / f"{name}.json").write_bytes(orjson.dumps(document))
    return path


def one_more(columns: list[Any]) -> None:
    columns.append({"name": "names", "path": "name.count()", "type": "integer", "description": "Number of names."})


def test_a_changed_and_a_new_view_are_rebuilt_alone(kept: Settings, tmp_path: Path) -> None:
    records = published(kept)
    write(kept, records)
    keep(kept)
    digests = dict(in_database(kept, "select name, digest from fhir._tables"))
    views = folder_with(tmp_path / "views", patient=one_more, people=one_more)
    changed = kept.model_copy(update={"tables_views": views})
    write(kept, records[: len(records) // 2])  # the rebuilt tables are as far as the others, then all follow on
    keep(changed)
    assert wrong(changed) == {}
    now = dict(in_database(kept, "select name, digest from fhir._tables"))
    assert {name for name in now if now[name] != digests.get(name)} == {"patient", "people"}
    assert in_database(kept, "select count(*) from fhir.people where names > 0") != [(0,)]


def test_views_whose_long_names_begin_alike_are_rebuilt_apart(kept: Settings, tmp_path: Path) -> None:
    """PostgreSQL cuts names after 63 characters."""
    write(kept, published(kept))
    keep(kept)
    names = [f"{'p' * 62}{last}" for last in "xy"]
    long = kept.model_copy(update={"tables_views": folder_with(tmp_path / "views", **dict.fromkeys(names, one_more))})
    keep(long)
    assert wrong(long) == {}


def test_the_table_of_a_gone_view_is_kept_without_the_erased_or_dropped(kept: Settings, tmp_path: Path) -> None:
    records = published(kept)
    write(kept, records)
    keep(kept.model_copy(update={"tables_views": folder_with(tmp_path / "views", people=one_more)}))
    [(before,)] = in_database(kept, "select count(*) from fhir.people")
    patient = next(record for record in records if record.topic == "fhir.r4.Patient")
    write(kept, [replace(patient, value=None)])
    keep(kept)
    assert in_database(kept, "select count(*) from fhir.people") == [(before - 1,)]
    write(kept, [patient])
    keep(kept)
    back = kept.model_copy(update={"tables_views": tmp_path / "views"})
    keep(back)
    assert wrong(back) == {}, "a view that comes back is rebuilt"
    keep(kept, drop_gone=True)
    assert wrong(kept) == {}
    with pytest.raises(ConfigurationError):
        in_database(kept, "select count(*) from fhir.people")


def test_topics_that_were_made_anew_are_refused_until_all_is_rebuilt(
    kept: Settings, request: pytest.FixtureRequest
) -> None:
    from fhirline.streams.demo.embedded_broker import EmbeddedBroker

    records = published(kept)
    write(kept, records)
    keep(kept)
    with EmbeddedBroker() as other:
        create_topics(other.bootstrap)
        elsewhere = kept.model_copy(update={"bootstrap": other.bootstrap})
        write(elsewhere, records[: len(records) // 2])
        with pytest.raises(ConfigurationError, match=r"was made anew.*tables rebuild --all"):
            keep(elsewhere)
        store = open_store(elsewhere)
        try:
            Rebuild(elsewhere, store, load_catalog(elsewhere)).of_everything(read_topics(elsewhere))
        finally:
            store.close()
        write(elsewhere, records[len(records) // 2 :])
        keep(elsewhere)
        assert wrong(elsewhere) == {}


def test_who_may_have_missed_tombstones_rebuilds_all(kept: Settings, tmp_path: Path) -> None:
    """Rows of a patient whose tombstone compaction has removed meanwhile: no record tells of them any more.

    The table of a view that is gone has such rows too, and ``record`` the outcome of an event of that patient.
    """
    write(kept, published(kept))
    keep(kept.model_copy(update={"tables_views": folder_with(tmp_path / "views", people=one_more)}))
    keep(kept)
    [(people,)] = in_database(kept, "select count(*) from fhir.people")
    store = open_store(kept)
    try:
        store.run("insert into fhir.patient (resource_id, family) values ('gone', 'Erased')")
        store.run("insert into fhir.people (resource_id, family) values ('gone', 'Erased')")
        for type in ("Provenance", "OperationOutcome"):
            store.run(
                "insert into fhir.record (record_key, resource_type, resource_id, topic, partition, record_offset, "
                "vendor, tenant, event_key, written_at, occurred_at) "
                f"values ('{type}/gone', '{type}', 'gone', 'gone', 0, 0, 'v', 't', 'gone', now(), now())"
            )
        store.run("update fhir._positions set complete_at = complete_at - interval '30 hours'")
    finally:
        store.close()
    assert wrong(kept) != {}
    keep(kept)
    assert wrong(kept) == {}
    assert in_database(kept, "select count(*) from fhir.people") == [(people,)]


def test_status_and_doctor_tell_how_the_tables_are(kept: Settings, tmp_path: Path) -> None:
    """Records that came since, and a view that has changed since."""
    records = published(kept)
    write(kept, records[:100])
    keep(kept)
    ends = {place: Ends(0, offset) for place, offset in positions(kept).items()}
    found = read_tables(kept, ends)
    assert found is not None
    assert (found.lag, found.problem) == (0, "")
    place = next(iter(ends))
    behind = read_tables(kept, ends | {place: Ends(0, ends[place].end + 7)})
    assert behind is not None
    assert (behind.lag, behind.lag_most) == (7, 7)
    [well] = warehouse.database(kept)
    assert well.level == Level.OK
    changed = kept.model_copy(update={"tables_views": folder_with(tmp_path / "views", people=one_more)})
    [warned] = warehouse.database(changed)
    assert (warned.level, "people" in warned.text) == (Level.WARNING, True)
    nowhere = kept.model_copy(update={"tables_url": "duckdb:/nowhere/tables.duckdb"})
    [lost] = warehouse.database(nowhere)
    assert lost.level == Level.PROBLEM
    told = read_tables(nowhere, ends)
    assert told is not None
    assert "no such file" in told.problem


def positions(settings: Settings) -> dict[TopicPartition, int]:
    store = open_store(settings)
    try:
        return read_positions(store)
    finally:
        store.close()


def test_everything_has_a_comment_and_readers_keep_their_grants(own_broker: RunningBroker, postgres: Postgres) -> None:
    with postgres.database() as database:
        settings = own_broker.settings(tables_url=database.url, tables_password=postgres.password)
        keep(settings)
        uncommented = database.rows(
            "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 "
            "join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'fhir' and c.relkind in ('r', 'v') "
            "and c.relname not like E'\\\\_%' and not a.attisdropped "
            "and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)"
        )
        assert uncommented == []
        database.rows(
            f"create role reads_{database.name}; grant select on fhir.patient, fhir.event to reads_{database.name}"
        )
        store, catalog = open_store(settings), load_catalog(settings)
        try:
            before = schema.generation(store)
            Rebuild(settings, store, catalog.only(["patient", "record"])).of_views()
            assert schema.generation(store) > before
        finally:
            store.close()
        for name in ("patient", "event"):  # the view is made anew with `record`
            held = f"select has_table_privilege('reads_{database.name}', 'fhir.{name}', 'select')"
            assert database.rows(held) == [(True,)]
        assert database.rows(
            "select count(*) from pg_indexes where schemaname = 'fhir' and tablename = 'patient' "
            "and indexdef like '%(identifier)%'"
        ) == [(1,)]


def test_a_password_in_the_url_and_a_wrong_one_are_refused(own_broker: RunningBroker, postgres: Postgres) -> None:
    with postgres.database() as database:
        url = database.url.replace("@", f":{postgres.password}@")
        for given in (
            {"tables_url": url},
            {"tables_url": database.url, "tables_password": "wrong"},
            {"tables_url": f"{database.url}x", "tables_password": postgres.password},
        ):
            with pytest.raises(ConfigurationError) as refused:
                open_store(own_broker.settings(**given))
            assert postgres.password not in str(refused.value)
