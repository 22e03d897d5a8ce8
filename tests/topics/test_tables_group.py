"""The consumer group of the tables: one for each database and schema."""

import pytest

from fhirline.config.settings import Settings
from fhirline.topics.tables_group import shared_tables_group

ADDRESS = "postgresql://writer@db.internal:5432/warehouse"


def group(url: str | None, **more: object) -> str | None:
    return shared_tables_group(Settings.model_validate({"tables_url": url, **more}))


def test_a_group_is_of_one_database_and_schema() -> None:
    """Two databases in one group would each get a part of the rows only."""
    groups = [
        group(ADDRESS),
        group(ADDRESS.replace("db.internal", "other.internal")),
        group(ADDRESS.replace("5432", "5433")),
        group(ADDRESS.replace("warehouse", "staging")),
        group(ADDRESS, tables_schema="other"),
        group(ADDRESS, tables_without_identities=True),
        group(ADDRESS, group="other"),
        group("postgresql:///warehouse?host=/run/one"),
        group("postgresql:///warehouse?host=/run/two"),
    ]
    assert len({*groups}) == len(groups)


@pytest.mark.parametrize("url", [ADDRESS.replace("writer", "another"), f"{ADDRESS}?sslmode=verify-full"])
def test_who_connects_and_how_makes_no_other_group(url: str) -> None:
    assert group(url) == group(ADDRESS)


@pytest.mark.parametrize("url", ["duckdb:tables.duckdb", None])
def test_a_file_has_no_group(url: str | None) -> None:
    assert group(url) is None
