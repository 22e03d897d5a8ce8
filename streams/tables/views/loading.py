"""Loads views: the JSON files that ship, and those of a folder of the user's."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
from pydantic import ValidationError

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views.definition import ColumnDefinition, ViewDefinition
from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError
from fhirline.streams.tables.views.selection import compile_rows
from fhirline.streams.tables.views.view import (
    ANY_RESOURCE,
    RESOURCE_ID,
    Index,
    Reference,
    Row,
    View,
    ViewFailed,
)

BASE: Final = "fhirline_base"
"""The constant of a view that holds FHIRLINE_BASE: whatever the file says, the deployment's is used."""

KEY: Final = "fhirline/primary-key"
INDEX: Final = "fhirline/index"
REFERENCES: Final = "fhirline/references"
"""Tags of a column: it is in the primary key; to the index that the value names; it has keys of ``view.column``."""

RESERVED: Final = frozenset({"event", "event_flag", "record"})
"""Tables that are made of the records' headers beside the resources, and so are no views."""

Rows: TypeAlias = Callable[[Mapping[str, Any]], list[Row]]

_RESOURCE_KEYS: Final = frozenset({"getResourceKey()", "id"})


def load_views(*folders: Path, base: str) -> dict[str, View]:
    """Load the views that ship and those of ``folders`` by name, for resources of a FHIRLINE_BASE.

    A view of a later folder replaces one of the same name. Raises ConfigurationError: file, place, problem, remedy.
    """
    views: dict[str, View] = {}
    for folder in (files("fhirline.config") / "views", *folders):
        own: dict[str, str] = {}
        for shown, content in read_folder(folder):
            view = read_view(shown, content, base)
            if view.name in own:
                raise ConfigurationError(f"{shown}: name: {view.name} is the view of {own[view.name]} too; rename one")
            own[view.name] = shown
            views[view.name] = view
    for view in views.values():
        for reference in view.references:
            target = views.get(reference.view)
            if target is None or reference.key not in {column.name for column in target.columns}:
                raise ConfigurationError(
                    f"view {view.name}: column {reference.column}: {REFERENCES}: there is no {reference.view}."
                    f"{reference.key}; name a view and its column"
                )
    return dict(sorted(views.items()))


def read_view(shown: str, content: bytes, base: str) -> View:
    """Read a view for a table. Raises ConfigurationError, whose message begins with ``shown``."""
    definition = read_definition(shown, content)
    if definition.name is None:
        raise ConfigurationError(f"{shown}: name: missing; it becomes the table's name")
    if definition.name in RESERVED:
        raise ConfigurationError(f"{shown}: name: {definition.name} is made by fhirline itself; choose another name")
    columns = [*definition.columns()]
    first = columns[0]
    if first.name != RESOURCE_ID or first.path not in _RESOURCE_KEYS or first.collection:
        raise ConfigurationError(
            f"{shown}: select[0].column[0]: the first column has to be {RESOURCE_ID} with the path getResourceKey(): "
            "the rows of a changed or deleted resource are found by it"
        )
    view = compile_view(shown, definition, base)
    if not view.key:
        raise ConfigurationError(
            f"{shown}: a resource may have several rows, and no column is tagged {KEY}; tag those of the primary key: "
            f"{RESOURCE_ID}, and a column with the path %rowIndex in each forEach or repeat"
        )
    return view


def read_definition(shown: str, content: bytes) -> ViewDefinition:
    """Read a ViewDefinition. Raises ConfigurationError."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{shown}:{error.lineno}: not valid JSON: {error.msg}") from None
    try:
        return ViewDefinition.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "no such element in a ViewDefinition; correct its name, or remove it"
        raise ConfigurationError(f"{shown}: {_place(first['loc'])}: {message}") from None


def compile_view(shown: str, definition: ViewDefinition, base: str) -> View:
    """Compile a definition. Raises ConfigurationError."""
    name = definition.name or shown
    columns = [*definition.columns()]
    names = [column.name.lower() for column in columns]  # databases do not tell cases apart
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ConfigurationError(f"{shown}: select: two columns are called {twice}; rename one")
    try:
        constants = definition.constants()
        if BASE in constants:
            constants[BASE] = base
        rows = compile_rows(definition, constants)
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}: {error}") from None
    key = tuple(each.name for each, _ in _tagged(columns, KEY))
    if not key and columns[0].name == RESOURCE_ID and definition.has_one_row():
        key = (RESOURCE_ID,)
    document = definition.model_dump(mode="json", exclude_unset=True)
    return View(
        name=name,
        resource=definition.resource,
        columns=tuple(each.column() for each in columns),
        key=key,
        description=definition.description,
        indexes=_indexes(columns),
        references=tuple(_reference(shown, each.name, value) for each, value in _tagged(columns, REFERENCES)),
        digest=hashlib.sha256(orjson.dumps([document, constants], option=orjson.OPT_SORT_KEYS)).hexdigest(),
        _rows=_guarded(name, definition.resource, _keyed(columns, key, rows)),
    )


def _keyed(columns: list[ColumnDefinition], key: tuple[str, ...], rows: Rows) -> Rows:
    """Refuse rows of one resource that have the same primary key, or none."""
    if not key:
        return rows
    at = [number for number, column in enumerate(columns) if column.name in key]

    def keyed(resource: Mapping[str, Any]) -> list[Row]:
        found = rows(resource)
        keys = {tuple([row[number] for number in at]) for row in found}
        if len(keys) < len(found) or any(None in each for each in keys):
            raise FhirPathError(
                f"two rows have the same primary key, or a part of one is NULL; tag other columns with {KEY}: "
                f"{RESOURCE_ID}, and a %rowIndex of each forEach or repeat"
            )
        return found

    return keyed


def _guarded(name: str, resource_type: str, rows: Rows) -> Rows:
    """Give no rows to resources of other types, and name the view and the resource in an error."""

    def guarded(resource: Mapping[str, Any]) -> list[Row]:
        if resource_type not in (resource.get("resourceType"), ANY_RESOURCE):
            return []
        try:
            return rows(resource)
        except FhirPathError as error:
            raise ViewFailed(f"view {name}: {error} (in {_called(resource)})") from None
        except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError) as error:
            raise ViewFailed(
                f"view {name}: an expression does not fit {_called(resource)}: {type(error).__name__}"
            ) from None

    return guarded


def _called(resource: Mapping[str, Any]) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"


def read_folder(folder: Any) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of a folder. Raises ConfigurationError."""
    try:
        found = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
        for file in found:
            yield str(file) if isinstance(file, Path) else file.name, file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be read: {error.strerror}; name a folder of ViewDefinitions"
        ) from None


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


def _place(location: tuple[int | str, ...]) -> str:
    """Write a place as ``select[0].column[1].path``."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.lstrip(".") or "the document"
