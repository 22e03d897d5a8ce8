"""The databases that hold the tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from tests.support.kafka.brokers import RunningBroker
from tests.support.postgres import Postgres


@pytest.fixture(params=["duckdb", "postgresql"])
def kept(request: pytest.FixtureRequest, own_broker: RunningBroker, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a broker without records, and of a database of each kind."""
    if request.param == "duckdb":
        yield own_broker.settings(tables_url=f"duckdb:{tmp_path}/tables.duckdb")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as database:
        yield own_broker.settings(tables_url=database.url, tables_password=server.password)
