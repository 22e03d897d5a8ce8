"""The primary key of a view's table, and what a view lacks for it.

The rows of a resource are deleted by its id, so each table begins with ``resource_id``. Rows of one resource are told
apart by the columns that are tagged, or by ``ordinal``, the number of the row. Both are added to a view that has none,
so that a ViewDefinition which was written for another system makes a table as it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views.compiling import KEY, called
from fhirline.streams.tables.views.definition import ViewDefinition
from fhirline.streams.tables.views.view import RESOURCE_ID, Column, Row, View, ViewFailed

ORDINAL: Final = "ordinal"

_RESOURCE_KEYS: Final = frozenset({"getResourceKey()", "id"})


def with_key(shown: str, view: View, definition: ViewDefinition) -> View:
    """Return a view whose table has a primary key. Raises ConfigurationError."""
    names = {column.name.lower() for column in view.columns}
    first = view.columns[0]
    has_id = first.name == RESOURCE_ID and first.path in _RESOURCE_KEYS and not first.collection
    if not has_id and RESOURCE_ID in names:
        raise ConfigurationError(
            f"{shown}: column {RESOURCE_ID}: has to be the first one, with the path getResourceKey(), because a "
            "resource's rows are found by it; move it, or give it another name, and it is added"
        )
    if has_id and not _is_of_resource(definition):
        raise ConfigurationError(
            f"{shown}: column {RESOURCE_ID}: has to be getResourceKey() of the resource in all branches, not of an "
            "element within forEach, forEachOrNull or repeat; move it out, or give it another name, and it is added"
        )
    listed = next((column.name for column in view.columns if column.collection and column.name in view.key), None)
    if listed is not None:
        raise ConfigurationError(
            f"{shown}: column {listed}: a collection cannot be tagged {KEY}; tag a column with one value"
        )
    numbered = not view.key and not definition.has_one_row()
    if numbered and ORDINAL in names:
        raise ConfigurationError(
            f"{shown}: column {ORDINAL}: no column is tagged {KEY}; tag those of the primary key, or give this one "
            "another name, and the row's number is added as a column of this name"
        )
    added = () if has_id else (Column(RESOURCE_ID, "id", description=f"Id of the {view.resource}."),)
    own = (ORDINAL,) if numbered else tuple(name for name in view.key if name != RESOURCE_ID)
    columns = (*added, *view.columns)
    if numbered:
        columns = (
            columns[0],
            Column(ORDINAL, "integer", description="Number of the row, from 1.", without_identities="keep"),
            *columns[1:],
        )
    key = (RESOURCE_ID, *own)
    return replace(view, columns=columns, key=key, _rows=_Keyed(view, not has_id, numbered, columns, key))


def _is_of_resource(definition: ViewDefinition) -> bool:
    """Tell whether each column ``resource_id`` is evaluated on the resource itself, and is its id."""
    everywhere = [column for column in definition.all_columns() if column.name == RESOURCE_ID]
    outside = [column for select in definition.select for column in select.own_columns() if column.name == RESOURCE_ID]
    return len(outside) == len(everywhere) and all(column.path in _RESOURCE_KEYS for column in everywhere)


class _Keyed:
    """The rows of a view, with what was added. Raises ViewFailed where two have the same key, or a part is NULL."""

    def __init__(
        self, view: View, has_no_id: bool, numbered: bool, columns: tuple[Column, ...], key: tuple[str, ...]
    ) -> None:
        self._view = view
        self._has_no_id = has_no_id
        self._numbered = numbered
        self._at = [number for number, column in enumerate(columns) if column.name in key]

    def __call__(self, resource: Mapping[str, Any]) -> list[Row]:
        rows = self._view.rows(resource)
        if self._has_no_id:
            rows = [(resource.get("id"), *row) for row in rows]
        if self._numbered:
            rows = [(row[0], number, *row[1:]) for number, row in enumerate(rows, 1)]
        keys = {tuple([row[number] for number in self._at]) for row in rows}
        if len(keys) < len(rows) or any(None in key for key in keys):
            raise ViewFailed(
                f"view {self._view.name}: two rows have the same primary key, or a part of one is NULL; tag a "
                f"%rowIndex of each forEach and repeat with {KEY}, or no column (in {called(resource)})"
            )
        return rows
