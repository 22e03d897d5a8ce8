"""The tables of the database that settings name."""

from typing import Any, NamedTuple

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.tables.open_store import open_store
from tests.support.expected_tables import different, expected, held
from tests.support.postgres import Database


class OnPostgres(NamedTuple):
    """Tables in a database of a PostgreSQL server. ``records``: what workers publish, for their topics."""

    settings: Settings
    database: Database
    records: list[ProducerRecord]


def in_database(settings: Settings, *statements: str) -> list[Any]:
    """Run statements, and return the rows of the last one."""
    store = open_store(settings)
    try:
        for statement in statements[:-1]:
            store.run(statement)
        return store.rows(statements[-1])
    finally:
        store.close()


def wrong(settings: Settings) -> dict[str, str]:
    """Return how the tables differ from what the topics say."""
    store = open_store(settings)
    try:
        return different(held(store.rows), expected(settings))
    finally:
        store.close()
