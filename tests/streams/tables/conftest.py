"""The databases that hold the tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from tests.support.kafka.brokers import RunningBroker
from tests.support.kept_tables import OnPostgres
from tests.support.postgres import Postgres
from tests.support.tables import keep, published, write


@pytest.fixture(params=["duckdb", "postgresql"])
def kept(request: pytest.FixtureRequest, own_broker: RunningBroker, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a broker without records, and of a database of each kind."""
    if request.param == "duckdb":
        yield own_broker.settings(tables_url=f"duckdb:{tmp_path}/tables.duckdb")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as database:
        yield own_broker.settings(tables_url=database.url, tables_password=server.password)


@pytest.fixture
def on_postgres(own_broker: RunningBroker, postgres: Postgres) -> Iterator[OnPostgres]:
    """A broker without records, and an empty database of the PostgreSQL server."""
    with postgres.database() as database:
        settings = own_broker.settings(tables_url=database.url, tables_password=postgres.password)
        yield OnPostgres(settings, database, published(settings))


@pytest.fixture
def half_kept(on_postgres: OnPostgres) -> OnPostgres:
    """The same with every second record written and in the tables."""
    write(on_postgres.settings, on_postgres.records[::2])
    keep(on_postgres.settings)
    return on_postgres
