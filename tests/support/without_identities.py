"""The tables without identities of the packaged views, for tests."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from fhirline.config.settings import Settings
from fhirline.streams.tables.catalog import Catalog, load_catalog
from tests.support.cases import BASE

KEY = "a key of tests that has enough characters"
OTHER_KEY = "another key of tests, as long as the first"


def settings_of(key: str = KEY, **more: Any) -> Settings:
    return Settings(base=BASE, tables_without_identities=True, research_key=key, **more)


@cache
def catalog_of(key: str = KEY, dates: str = "shift") -> Catalog:
    return load_catalog(settings_of(key, research_dates=dates))


def rows_of(catalog: Catalog, resources: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of resources in all tables that views make, with the table's name."""
    for resource in resources:
        for source in catalog.of_type(resource["resourceType"]):
            names = [column.name for column in source.table.columns]
            for row in source.convert(source.rows(resource)):
                yield source.table.name, dict(zip(names, row, strict=True))
