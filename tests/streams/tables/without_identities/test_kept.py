"""The tables without identities, kept from topics in both databases: erasure, another key, and the analyst's role."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import orjson
import psycopg
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import from_confluent
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.topics import TOPICS
from tests.streams.tables.test_changes import erased
from tests.support import cli
from tests.support.expected_tables import Rows, different, held, text
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import CONFIG, ROOT
from tests.support.postgres import Postgres
from tests.support.receiving import environment
from tests.support.tables import keep, keep_once, published, write
from tests.support.without_identities import KEY, OTHER_KEY, catalog_of

pytestmark = pytest.mark.long

SCHEMA = "without_identities"


@pytest.fixture(params=["duckdb", "postgresql"])
def kept(request: pytest.FixtureRequest, own_broker: RunningBroker, tmp_path: Path) -> Iterator[Settings]:
    hidden = {"tables_without_identities": True, "research_key": KEY}
    if request.param == "duckdb":
        yield own_broker.settings(tables_url=f"duckdb:{tmp_path}/research.duckdb", **hidden)
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as database:
        yield own_broker.settings(tables_url=database.url, tables_password=server.password, **hidden)


def wrong(settings: Settings) -> dict[str, str]:
    """Return how the tables differ from what the topics' newest records make."""
    newest: dict[bytes, Any] = {}
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions(TOPICS))):
            record = from_confluent(message)
            newest[record.key or b""] = record.value and orjson.loads(record.value)
    catalog = load_catalog(settings)
    wanted: dict[str, Rows] = {name: Counter() for name in catalog.tables}
    for resource in filter(None, newest.values()):
        for source in catalog.of_type(resource["resourceType"]):
            wanted[source.table.name].update(map(text, source.convert(source.rows(resource))))
    store = open_store(settings)
    try:
        tables = held(store.rows, SCHEMA)
        assert tables.keys() == wanted.keys()
        return different(tables, wanted)
    finally:
        store.close()


def test_erasure_and_another_key_reach_all_rows(kept: Settings, tmp_path: Path) -> None:
    """The table of a view that is gone is dropped: its hashes would be those of the first key."""
    records = published(kept)
    write(kept, records)
    document = orjson.loads((CONFIG / "views" / "patient.json").read_bytes())
    (tmp_path / "people.json").write_bytes(orjson.dumps(document | {"name": "people"}))
    more = kept.model_copy(update={"tables_views": tmp_path})
    keep(more)
    assert wrong(more) == {}
    keep(kept)
    assert wrong(kept) == {}
    found = next(record for record in records if record.topic == "fhir.r4.Patient")
    write(kept, erased(records, found.key.decode()))
    catalog, store = load_catalog(kept), open_store(kept)
    hidden = catalog.row_id(found.key.decode().partition("/")[2])
    holding = f"select count(*) from {SCHEMA}.encounter where patient_id = '{hidden}'"
    patient = f"select count(*) from {SCHEMA}.patient where resource_id = '{hidden}'"
    assert store.rows(patient) == [(1,)]
    store.close()
    keep(kept)
    assert wrong(kept) == {}
    store = open_store(kept)
    assert store.rows(patient) == store.rows(holding) == [(0,)]
    store.close()
    others = Settings.model_validate(kept.model_dump() | {"research_key": OTHER_KEY})
    keep(others)
    assert wrong(others) == {}
    store = open_store(others)
    assert store.rows(f"select min(complete_at) is not null from {SCHEMA}._positions") == [(True,)]
    store.close()


def test_an_export_has_these_tables_and_no_ndjson(own_broker: RunningBroker, tmp_path: Path) -> None:
    settings = own_broker.settings()
    write(settings, published(settings))
    hidden = {"FHIRLINE_TABLES_WITHOUT_IDENTITIES": "true", "FHIRLINE_RESEARCH_KEY": KEY}
    environ = environment(settings.bootstrap, FHIRLINE_PARTITIONS=str(settings.partitions), **hidden)
    refused = cli.run("export", "--to", tmp_path / "a", env=environ)
    assert (refused.returncode, "NDJSON would have all identities" in refused.stderr) == (2, True)
    done = cli.run("export", "--to", tmp_path / "b", "--format", "parquet", env=environ)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "b" / "parquet"
    assert {path.name for path in folder.iterdir()} <= {*catalog_of().tables}
    described = duckdb.execute(f"describe select * from '{folder}/patient/*/*.parquet'").fetchall()
    columns = [name for name, *_ in described]
    assert columns == ["resource_id", "vendor", "tenant", "gender", "birth_date", "source_vendor"]


def test_an_analyst_with_the_grants_of_the_docs_sees_these_tables_only(
    own_broker: RunningBroker, postgres: Postgres
) -> None:
    page = (ROOT / "docs" / "without-identities.md").read_text("utf-8")
    [statements] = re.findall(r"^```sql\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    with postgres.database() as database:
        researcher = f"{database.name}_researcher"
        for statement in filter(str.strip, statements.split(";")):
            mine = re.sub(r"\bfhirline\b", database.name, statement).replace("researcher", researcher)
            database.rows(mine)
        settings = own_broker.settings(tables_url=database.url, tables_password=postgres.password)
        write(settings, published(settings))
        keep(settings)
        done = keep_once(settings, "--without-identities", FHIRLINE_RESEARCH_KEY=KEY, **database.environment)
        assert done.exit_code == 0, done.output
        assert KEY not in done.output
        with postgres.connect(database.name) as connection:
            connection.execute(f"set role {researcher}")
            [[patients]] = connection.execute(f"select count(*) from {SCHEMA}.patient").fetchall()
            assert patients
            for table in ("patient", "record", "_positions"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select 1 from fhir.{table}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"delete from {SCHEMA}.patient")
