"""A table: its columns, its key and its documentation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirline.streams.tables.column_types import BOOLEAN, INSTANT, NUMBER, TEXT, WHOLE, kind_of
from fhirline.streams.tables.instants import loaded_instant
from fhirline.streams.tables.views.view import ANY_RESOURCE, Column, Row, View


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Its first column is the id of the resource that a row was made of; for ``record``, the record's key.

    ``resource``: the type of the resources whose rows it has, or FHIR's abstract type for all types. ``digest`` changes
    whenever the rows or columns may change, so that the table is rebuilt. ``references``: column → ``table.column``
    that it names.
    """

    name: str
    resource: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    description: str
    digest: str
    indexes: tuple[tuple[str, ...], ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def id_column(self) -> str:
        return self.columns[0].name

    def has_rows_of(self, resource_type: str) -> bool:
        return self.resource in (resource_type, ANY_RESOURCE)


def table_of(view: View) -> Table:
    """Return the table of a view."""
    return Table(
        view.name,
        view.resource,
        view.columns,
        view.key,
        view.description,
        view.digest,
        tuple(index.columns for index in view.indexes),
        {reference.column: f"{reference.view}.{reference.key}" for reference in view.references},
    )


Converter = Callable[[Any], Any]


def converter(table: Table) -> Callable[[Iterable[Sequence[Any]]], list[Row]]:
    """Return a function that gives rows the Python types that the stores load.

    >>> columns = (Column("resource_id", "id"), Column("value", "decimal"))
    >>> converter(Table("observation", "Observation", columns, ("resource_id",), "", ""))([("o1", 7)])
    [('o1', 7.0)]
    """
    converters = tuple(
        _list_of(_CONVERTERS[kind_of(column)]) if column.collection else _CONVERTERS[kind_of(column)]
        for column in table.columns
    )

    def convert(rows: Iterable[Sequence[Any]]) -> list[Row]:
        return [
            tuple(
                None if value is None else convert_value(value)
                for convert_value, value in zip(converters, row, strict=True)
            )
            for row in rows
        ]

    return convert


def without_nul(text: str) -> str:
    """Return a text without NUL, which PostgreSQL refuses and codes and ids may have where nobody has checked them."""
    return text.replace("\0", "") if "\0" in text else text


def _text(value: Any) -> str:
    return without_nul(value if type(value) is str else str(value))


def _instant(value: Any) -> str:
    if not isinstance(value, str) or (found := loaded_instant(value)) is None:
        raise ValueError
    return found


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _list_of(convert: Converter) -> Converter:
    return lambda values: [convert(value) for value in values if value is not None]


_CONVERTERS: dict[str, Converter] = {TEXT: _text, BOOLEAN: _boolean, WHOLE: _whole, NUMBER: float, INSTANT: _instant}
