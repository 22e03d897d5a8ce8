"""The lag of the SQL tables behind the topics, by their own positions. Nothing is read where no database is set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.status.reading import Ends
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.open_store import is_lakehouse, open_lakehouse, open_store
from fhirline.streams.tables.positions import complete_at, read_positions
from fhirline.streams.tables.schema import exists
from fhirline.streams.tables.store import Store, StoreUnavailable
from fhirline.streams.tables.topics import TOPICS


@dataclass(frozen=True, slots=True)
class TablesState:
    """The state of the SQL tables.

    ``lag``: records that they do not have yet. ``complete_at``: when they last had all, in UNIX seconds. ``problem``:
    why the database could not be read; empty where it was. ``positions``: the next offset that they read of each
    partition.
    """

    database: str
    lag: int | None = None
    lag_most: int | None = None
    complete_at: float | None = None
    problem: str = ""
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "database": self.database,
            "lag": self.lag,
            "largestLag": self.lag_most,
            "completeAt": self.complete_at,
            "problem": self.problem or None,
        }


def read_tables(settings: Settings, ends: Mapping[TopicPartition, Ends]) -> TablesState | None:
    """Read the state from the database; None where none is set."""
    if settings.tables_url is None:
        return None
    if is_lakehouse(settings):
        return _lakehouse(settings, ends)
    try:
        store = open_store(settings, read_only=True)
    except (ConfigurationError, StoreUnavailable) as error:
        return TablesState(settings.tables_url.partition("?")[0], problem=str(error))
    try:
        return _state(store, ends)
    except (ConfigurationError, StoreUnavailable) as error:
        return TablesState(store.name, problem=str(error))
    finally:
        store.close()


def _state(store: Store, ends: Mapping[TopicPartition, Ends]) -> TablesState:
    if not exists(store, "_state"):
        return TablesState(store.name, problem=f"schema {store.schema} has no tables yet: start `fhirline tables`")
    positions = read_positions(store)
    lags = [*_lags(positions, ends).values()]
    return TablesState(store.name, sum(lags), max(lags, default=0), complete_at(store), positions=positions)


def _lakehouse(settings: Settings, ends: Mapping[TopicPartition, Ends]) -> TablesState:
    """Return the state of Delta tables, by the positions of the one that is furthest behind."""
    try:
        house, catalog = open_lakehouse(settings), load_catalog(settings)
        from fhirline.streams.tables.delta.lakehouse import least_positions

        if house.state() is None:
            return TablesState(house.name, problem=f"schema {house.schema} has no tables yet: start `fhirline tables`")
        positions = least_positions(house, catalog, ends)
        lags = [*_lags(positions, ends).values()]
        return TablesState(house.name, sum(lags), max(lags, default=0), house.complete_at(), positions=positions)
    except (ConfigurationError, StoreUnavailable) as error:
        return TablesState(settings.tables_url or "", problem=str(error))


def lags_by_topic(
    positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, Ends]
) -> list[tuple[str, int]]:
    """Return the topics that tables are made of, each with the records that the tables do not have yet."""
    found = dict.fromkeys(TOPICS, 0)
    for partition, lag in _lags(positions, ends).items():
        found[partition.topic] += lag
    return [*found.items()]


def _lags(positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, Ends]) -> dict[TopicPartition, int]:
    return {
        partition: max(0, found.end - max(found.first, positions.get(partition, 0)))
        for partition, found in ends.items()
        if partition.topic in TOPICS
    }
