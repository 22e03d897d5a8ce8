"""Read the Delta tables of a lakehouse as their users do: by DuckDB over Arrow."""

from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable
from prometheus_client import CollectorRegistry

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables.built_in import EVENT, event_query
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.delta.keeper import LakeKeeper
from fhirline.streams.tables.delta.lake_table import LakeTable
from fhirline.streams.tables.delta.lakehouse import Lakehouse
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.open_store import open_lakehouse
from fhirline.streams.tables.topics import read_topics
from tests.support.expected_tables import Rows, different, expected, held


def keep_lake(settings: Settings, **how: bool) -> None:
    """Do in this process what ``fhirline tables --once`` does."""
    LakeKeeper(
        settings,
        open_lakehouse(settings),
        load_catalog(settings),
        read_topics(settings),
        TablesMetrics(CollectorRegistry()),
        lambda: False,
        until_end=True,
    ).run(**how)


def lake_rows(house: Lakehouse) -> Any:
    """Return a function that runs a statement on the newest version of each table, and ``event`` as docs have it."""

    def rows(statement: str) -> list[Any]:
        with duckdb.connect() as connection:
            connection.execute("create schema fhir")
            for name in house.names():
                connection.register("loaded", DeltaTable(house.path / name).to_pyarrow_table())
                connection.execute(f'create table fhir."{name}" as select * from loaded')
            if {"record", "event_flag"} <= {*house.names()}:
                connection.execute(f"create view fhir.{EVENT} as {event_query('fhir.record', 'fhir.event_flag')}")
            return connection.execute(statement).fetchall()

    return rows


def lake_held(house: Lakehouse) -> dict[str, Rows]:
    with duckdb.connect() as connection:
        connection.execute("create schema fhir")
        for name in house.names():
            connection.register("loaded", DeltaTable(house.path / name).to_pyarrow_table())
            connection.execute(f'create table fhir."{name}" as select * from loaded')
        connection.execute(f"create view fhir.{EVENT} as {event_query('fhir.record', 'fhir.event_flag')}")
        return held(lambda statement: connection.execute(statement).fetchall())


def lake_wrong(settings: Settings) -> dict[str, str]:
    """Return how the tables differ from what the topics say."""
    return different(lake_held(open_lakehouse(settings)), expected(settings))


def lake_tables(settings: Settings) -> list[LakeTable]:
    house, places = open_lakehouse(settings), read_topics(settings).partitions
    found = [house.open(table, places) for table in load_catalog(settings).tables.values()]
    return [lake for lake in found if lake is not None]


def uneven(settings: Settings) -> list[TopicPartition]:
    """Return the partitions that some table has read further than another one."""
    reached: dict[TopicPartition, set[int | None]] = {}
    for lake in lake_tables(settings):
        for place in lake.partitions:
            reached.setdefault(place, set()).add(lake.positions.get(place))
    return sorted(place for place, positions in reached.items() if len(positions) > 1)


def files_with(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
