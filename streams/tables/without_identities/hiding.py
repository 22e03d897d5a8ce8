"""Tables without identities, made of views: their columns, and the rows of a resource."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fhirline.config.table_digests import digest
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Row, View
from fhirline.streams.tables.without_identities.dates import patient_of
from fhirline.streams.tables.without_identities.rules import Means, rules_of

VERSION = 1
"""Raised whenever a rule gives other values, so that all tables are rebuilt."""

Rows = Callable[[Mapping[str, Any]], list[Row]]


def hidden_tables(views: Iterable[View], means: Means) -> list[tuple[Table, Rows]]:
    """Return the tables of the views that show something, with the functions that make their rows.

    A view is left out whose primary key is not shown, or nothing but it. Raises ConfigurationError.
    """
    made = [found for view in views if (found := _hidden(view, means)) is not None]
    names = {table.name for table, _ in made}
    return [(_with_references_to(names, table), rows) for table, rows in made]


def _with_references_to(names: Collection[str], table: Table) -> Table:
    kept = {column: target for column, target in table.references.items() if target.partition(".")[0] in names}
    return replace(table, references=kept)


def _hidden(view: View, means: Means) -> tuple[Table, Rows] | None:
    shown = rules_of(view, means)
    if not set(view.key) <= shown.keys() or len(shown) == len(view.key):
        return None
    grouped = means.oldest_year if any(column.without_identities == "year" for column, _ in shown.values()) else None
    table = Table(
        view.name,
        view.resource,
        tuple(column for column, _ in shown.values()),
        view.key,
        view.description,
        digest([VERSION, view.digest, means.keyed.digest, means.words.digest, grouped, means.years_only]),
        tuple(index.columns for index in view.indexes if shown.keys() >= set(index.columns)),
        {
            reference.column: f"{reference.view}.{reference.key}"
            for reference in view.references
            if reference.column in shown
        },
    )
    names = [column.name for column in view.columns]
    rules = [(names.index(name), rule) for name, (_, rule) in shown.items()]

    def rows(resource: Mapping[str, Any]) -> list[Row]:
        found = view.rows(resource)
        if not found:
            return []
        patient = patient_of(resource)
        return [
            tuple([None if row[at] is None else rule(row[at], row, patient) for at, rule in rules]) for row in found
        ]

    return table, rows
