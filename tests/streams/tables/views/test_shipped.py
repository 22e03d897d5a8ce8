"""The views that ship, on the resources of all golden cases."""

from collections import Counter
from functools import cache
from typing import Any

from fhirline.mappers.registry import VENDORS
from fhirline.streams.tables.views import load_views
from fhirline.streams.tables.views.view import RESOURCE_ID
from tests.support.cases import BASE
from tests.support.goldens import golden_resources, golden_resources_of

Found = dict[str, Any]

VIEWS = load_views(base=BASE)


@cache
def rows_of(name: str) -> tuple[Found, ...]:
    """Return all rows of a view, as dictionaries."""
    view = VIEWS[name]
    names = [column.name for column in view.columns]
    return tuple(
        dict(zip(names, row, strict=True))
        for resource in golden_resources()
        if view.has_rows_of(resource["resourceType"])
        for row in view.rows(resource)
    )


def test_every_column_has_a_value_somewhere() -> None:
    empty = [
        f"{view.name}.{column.name}"
        for view in VIEWS.values()
        for column in view.columns
        if all(row[column.name] is None for row in rows_of(view.name))
    ]
    assert empty == []


def test_no_column_has_an_empty_text() -> None:
    """``join()`` of nothing is an empty text: a column that joins has to ask for elements first."""
    found = {
        f"{name}.{column}" for name in VIEWS for row in rows_of(name) for column, value in row.items() if value == ""
    }
    assert found == set()


def test_every_column_and_view_is_described() -> None:
    undescribed = [view.name for view in VIEWS.values() if not view.description.endswith(".")]
    undescribed += [
        f"{view.name}.{column.name}"
        for view in VIEWS.values()
        for column in view.columns
        if not column.description.endswith(".")
    ]
    assert undescribed == []


def test_every_table_begins_with_the_id_of_the_resource() -> None:
    for view in VIEWS.values():
        assert (view.columns[0].name, view.key[0]) == (RESOURCE_ID, RESOURCE_ID), view.name
        assert not any(column.collection for column in view.columns), view.name


def test_references_name_the_first_column_of_a_view_of_that_type() -> None:
    """A foreign key holds ids of the type that its view has rows of."""
    for view in VIEWS.values():
        for reference in view.references:
            assert reference.key == RESOURCE_ID
            assert any(column.name == reference.column for column in view.columns)


def test_references_lead_to_rows() -> None:
    """Every foreign key that a golden case can follow is followed somewhere, so that none names another type's ids."""
    ids = {name: {row[RESOURCE_ID] for row in rows_of(name)} for name in VIEWS}
    lost = [
        f"{view.name}.{reference.column}"
        for view in VIEWS.values()
        for reference in view.references
        if not any(row[reference.column] in ids[reference.view] for row in rows_of(view.name))
    ]
    assert lost == []


def test_the_entries_of_a_resource_are_numbered_from_1() -> None:
    for view in VIEWS.values():
        if view.key == (RESOURCE_ID, "ordinal"):
            at = [column.name for column in view.columns].index("ordinal")
            for resource in golden_resources():
                ordinals = [row[at] for row in view.rows(resource)]
                assert ordinals == [*range(1, len(ordinals) + 1)], view.name


def test_every_resource_of_a_view_has_a_row() -> None:
    """A view without ``forEach`` loses no resource, and gives one no second row."""
    for view in VIEWS.values():
        if view.key == (RESOURCE_ID,):
            counted = Counter(row[RESOURCE_ID] for row in rows_of(view.name))
            assert counted == Counter(resource["id"] for resource in golden_resources_of(view.resource)), view.name


def test_another_base_changes_digests_and_finds_its_own_tags() -> None:
    others = load_views(base="https://other.example.org")
    patient = golden_resources_of("Patient")[0]
    at = [column.name for column in VIEWS["patient"].columns].index("vendor")
    assert VIEWS["patient"].rows(patient)[0][at] in VENDORS
    assert others["patient"].rows(patient)[0][at] is None
    assert others["patient"].digest != VIEWS["patient"].digest
    assert others["dosage"].digest == VIEWS["dosage"].digest


def test_files_are_named_as_their_views() -> None:
    from fhirline.streams.tables.views.loading import read_definition
    from tests.support.paths import CONFIG

    for path in sorted((CONFIG / "views").iterdir()):
        assert read_definition(path.name, path.read_bytes()).name == path.stem
