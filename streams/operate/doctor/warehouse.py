"""Checks of the SQL tables' database."""

import time
from collections.abc import Iterator

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, warning
from fhirline.streams.tables import schema
from fhirline.streams.tables.catalog import Catalog, load_catalog
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.positions import complete_at, topic_ids
from fhirline.streams.tables.store import Store, StoreAway
from fhirline.streams.tables.topics import Topics, read_topics, require_same_topics

CHECK = "sql tables"


def database(settings: Settings) -> Iterator[Finding]:
    """Check that the database answers, and that its tables are of these views and topics, where one is set."""
    if settings.tables_url is None:
        return
    fix = "correct what it names; docs/warehouse.md has the set-up"
    try:
        catalog, store = load_catalog(settings), open_store(settings, read_only=True)
    except (ConfigurationError, StoreAway) as error:
        yield problem(CHECK, str(error), fix)
        return
    try:
        yield from _tables(store, catalog, read_topics(settings))
    except (ConfigurationError, StoreAway) as error:
        yield problem(CHECK, str(error), fix)
    finally:
        store.close()


def _tables(store: Store, catalog: Catalog, topics: Topics) -> Iterator[Finding]:
    if not schema.exists(store, schema.STATE):
        yield warning(CHECK, f"{store.name}: schema {store.schema} has no tables yet", "start `fhirline tables`")
        return
    require_same_topics(topics, topic_ids(store), f"{store.name}, schema {store.schema}")
    plan = schema.plan(store, catalog)
    if renewed := [table.name for table in (*plan.missing, *plan.changed)]:
        yield warning(
            CHECK,
            f"{store.name}: new or changed views: {several(renewed)}",
            "start `fhirline tables` again: it rebuilds their tables first",
        )
    if plan.gone:
        yield warning(
            CHECK,
            f"{store.name}: no view makes {several(sorted(plan.gone))} any more: no new rows",
            "drop them with `fhirline tables --drop-gone`, or bring the views back",
        )
    now = time.time()
    hours = (now - (complete_at(store) or now)) / 3600
    if hours > 1:
        yield warning(
            CHECK,
            f"{store.name}: the tables last had all records {hours:.0f} h ago",
            "see whether `fhirline tables` runs, and its log",
        )
    if not renewed and not plan.gone and hours <= 1:
        yield ok(CHECK, f"{store.name}: {len(catalog.tables)} tables in schema {store.schema}, kept within the hour")
