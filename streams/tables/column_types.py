"""The types of columns: from FHIR's primitive types to those of PostgreSQL, DuckDB and Arrow (docs/views.md)."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from fhirline.streams.tables.views.view import Column

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, BOOLEAN, WHOLE, NUMBER, INSTANT = "text", "boolean", "whole", "number", "instant"
"""The kinds of columns. Each store has a type for each kind."""

_KINDS = {
    "boolean": BOOLEAN,
    "integer": WHOLE,
    "integer64": WHOLE,
    "positiveInt": WHOLE,
    "unsignedInt": WHOLE,
    "decimal": NUMBER,
    "instant": INSTANT,
}
"""FHIR primitive type → kind. All others are text: a ``date`` or ``dateTime`` may be a year or a month only."""

POSTGRESQL: Mapping[str, str] = {
    TEXT: "text",
    BOOLEAN: "boolean",
    WHOLE: "bigint",
    NUMBER: "double precision",
    INSTANT: "timestamptz",
}
DUCKDB: Mapping[str, str] = {
    TEXT: "varchar",
    BOOLEAN: "boolean",
    WHOLE: "bigint",
    NUMBER: "double",
    INSTANT: "timestamptz",
}


def kind_of(column: Column) -> str:
    """Return the kind of a column, or of the items of one that is a list.

    >>> kind_of(Column("value", "decimal")), kind_of(Column("birth_date", "date"))
    ('number', 'text')
    """
    return _KINDS.get(column.type, TEXT)


@cache
def arrow_types() -> Mapping[str, "pa.DataType"]:
    """Return kind → Arrow's type, as Delta tables and Parquet files have it. Needs pyarrow."""
    import pyarrow as pa

    return {
        TEXT: pa.string(),
        BOOLEAN: pa.bool_(),
        WHOLE: pa.int64(),
        NUMBER: pa.float64(),
        INSTANT: pa.timestamp("us", tz="UTC"),
    }
