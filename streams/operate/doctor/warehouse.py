"""Checks of the SQL tables' database."""

import time
from collections.abc import Iterator

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, warning
from fhirline.streams.tables import schema
from fhirline.streams.tables.catalog import Catalog, load_catalog
from fhirline.streams.tables.open_store import is_lakehouse, open_lakehouse, open_store
from fhirline.streams.tables.positions import complete_at, topic_ids
from fhirline.streams.tables.store import Store, StoreUnavailable
from fhirline.streams.tables.topics import Topics, made_anew, read_topics, require_same_topics

CHECK = "sql tables"


def database(settings: Settings) -> Iterator[Finding]:
    """Check that the database answers, and that its tables are of these views and topics, where one is set."""
    if settings.tables_url is None:
        return
    fix = "correct what it names; docs/warehouse.md has the set-up"
    if is_lakehouse(settings):
        yield from _lakehouse(settings, fix)
        return
    try:
        catalog, store = load_catalog(settings), open_store(settings, read_only=True)
    except (ConfigurationError, StoreUnavailable) as error:
        yield problem(CHECK, str(error), fix)
        return
    try:
        yield from _tables(store, catalog, read_topics(settings))
    except (ConfigurationError, StoreUnavailable) as error:
        yield problem(CHECK, str(error), fix)
    finally:
        store.close()


def _tables(store: Store, catalog: Catalog, topics: Topics) -> Iterator[Finding]:
    if not schema.exists(store, schema.STATE):
        yield warning(CHECK, f"{store.name}: schema {store.schema} has no tables yet", "start `fhirline tables`")
        return
    require_same_topics(topics, topic_ids(store), f"{store.name}, schema {store.schema}")
    plan = schema.plan(store, catalog)
    if altered := [table.name for table in plan.altered]:
        yield problem(
            CHECK,
            f"{store.name}: somebody has dropped or altered tables of schema {store.schema}: {several(altered)}",
            "start `fhirline tables` again: it rebuilds them first; their columns are for nobody else to alter",
        )
        return
    renewed = [table.name for table in (*plan.missing, *plan.changed)]
    yield from _judged(store.name, store.schema, catalog, renewed, sorted(plan.gone), complete_at(store))


def _lakehouse(settings: Settings, fix: str) -> Iterator[Finding]:
    try:
        catalog, house = load_catalog(settings), open_lakehouse(settings)
        if house.state() is None:
            yield warning(CHECK, f"{house.where} has no tables yet", "start `fhirline tables`")
            return
        topics = read_topics(settings)
        found = {table.name: house.open(table, topics.partitions) for table in catalog.tables.values()}
        for lake in filter(None, found.values()):
            if other := lake.other_topics(topics.ids):
                yield problem(CHECK, made_anew(other[0], len(other), house.where), fix)
                return
        renewed = [name for name, lake in found.items() if lake is None or not lake.is_current]
        gone = sorted({*house.names()} - found.keys())
        yield from _judged(house.name, house.schema, catalog, renewed, gone, house.complete_at())
    except (ConfigurationError, StoreUnavailable) as error:
        yield problem(CHECK, str(error), fix)


def _judged(
    name: str, where: str, catalog: Catalog, renewed: list[str], gone: list[str], complete: float | None
) -> Iterator[Finding]:
    """Report tables to be rebuilt (``renewed``), those of no view (``gone``), and when all were complete."""
    if renewed:
        yield warning(
            CHECK,
            f"{name}: new or changed views: {several(renewed)}",
            "start `fhirline tables` again: it rebuilds their tables first",
        )
    if gone:
        yield warning(
            CHECK,
            f"{name}: no view makes {several(gone)} any more: no new rows",
            "drop them with `fhirline tables --drop-gone`, or bring the views back",
        )
    now = time.time()
    hours = (now - (complete or now)) / 3600
    if hours > 1:
        yield warning(
            CHECK,
            f"{name}: the tables last had all records {hours:.0f} h ago",
            "see whether `fhirline tables` runs, and its log",
        )
    if not renewed and not gone and hours <= 1:
        yield ok(CHECK, f"{name}: {counted(len(catalog.tables), 'table')} in schema {where}, kept within the hour")
