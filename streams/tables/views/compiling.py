"""Compiles a ViewDefinition to a view, with the metadata of its table that the columns' tags hold."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views.definition import ColumnDefinition, ViewDefinition
from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError
from fhirline.streams.tables.views.selection import compile_rows
from fhirline.streams.tables.views.view import ANY_RESOURCE, Index, Reference, Row, View, ViewFailed

BASE: Final = "fhirline_base"
"""The constant of a view that holds FHIRLINE_BASE: whatever the file says, the deployment's is used."""

KEY: Final = "fhirline/primary-key"
INDEX: Final = "fhirline/index"
REFERENCES: Final = "fhirline/references"
"""Tags of a column: it is in the primary key; to the index that the value names; it has keys of ``view.column``."""

Rows: TypeAlias = Callable[[Mapping[str, Any]], list[Row]]


def compile_view(shown: str, definition: ViewDefinition, base: str, types: Mapping[str, str] | None = None) -> View:
    """Compile a definition. ``types``: of the columns that state none. Raises ConfigurationError."""
    columns = [*definition.columns()]
    names = [column.name.lower() for column in columns]  # databases do not tell cases apart
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ConfigurationError(f"{shown}: select: two columns are called {twice}; rename one")
    inferred = types or {}
    try:
        constants = definition.constants()
        if BASE in constants:
            constants[BASE] = base
        rows = compile_rows(definition, constants, inferred)
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}: {error}") from None
    name = definition.name or shown
    document = [definition.model_dump(mode="json", exclude_unset=True), constants, dict(inferred)]
    return View(
        name=name,
        resource=definition.resource,
        columns=tuple(column.column(inferred.get(column.name)) for column in columns),
        key=tuple(item.name for item, _ in _tagged(columns, KEY)),
        description=definition.description,
        indexes=_indexes(columns),
        references=tuple(_reference(shown, item.name, value) for item, value in _tagged(columns, REFERENCES)),
        digest=hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest(),
        _rows=_guarded(name, definition.resource, rows),
    )


def _guarded(name: str, resource_type: str, rows: Rows) -> Rows:
    """Give no rows to resources of other types, and name the view and the resource in an error."""

    def guarded(resource: Mapping[str, Any]) -> list[Row]:
        if resource_type not in (resource.get("resourceType"), ANY_RESOURCE):
            return []
        try:
            return rows(resource)
        except FhirPathError as error:
            raise ViewFailed(f"view {name}: {error} (in {called(resource)})") from None
        except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError) as error:
            raise ViewFailed(
                f"view {name}: an expression does not fit {called(resource)}: {type(error).__name__}"
            ) from None

    return guarded


def called(resource: Mapping[str, Any]) -> str:
    """Name a resource in an error."""
    return f"{resource.get('resourceType')}/{resource.get('id')}"


def _tagged(columns: list[ColumnDefinition], name: str) -> Iterator[tuple[ColumnDefinition, str]]:
    for column in columns:
        for tag in column.tag:
            if tag.name == name:
                yield column, tag.value


def _indexes(columns: list[ColumnDefinition]) -> tuple[Index, ...]:
    found: dict[str, list[str]] = {}
    for column, name in _tagged(columns, INDEX):
        found.setdefault(name, []).append(column.name)
    return tuple(Index(name, tuple(names)) for name, names in found.items())


def _reference(shown: str, column: str, value: str) -> Reference:
    match = re.fullmatch(r"(\w+)\.(\w+)", value)
    if match is None:
        raise ConfigurationError(f"{shown}: column {column}: {REFERENCES} is view.column, such as patient.resource_id")
    return Reference(column, match[1], match[2])
