"""Loads views: the JSON files that ship, and those of a folder of the user's."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from fhirline.config.errors import ConfigurationError
from fhirline.config.wrong_values import message_of
from fhirline.streams.tables.views.compiling import REFERENCES, compile_view
from fhirline.streams.tables.views.definition import ViewDefinition
from fhirline.streams.tables.views.keys import with_key
from fhirline.streams.tables.views.view import View

RESERVED: Final = frozenset({"event", "event_flag", "record"})
"""Tables that are made of the records' headers beside the resources, and so are no views."""


def load_views(*folders: Path, base: str) -> dict[str, View]:
    """Load the views that ship and those of ``folders`` by name, for resources of a FHIRLINE_BASE.

    A view of a later folder replaces one of the same name. Raises ConfigurationError: file, place, problem, remedy.
    """
    views: dict[str, View] = {}
    for folder in (files("fhirline.config") / "views", *folders):
        own: dict[str, str] = {}
        for shown, content in read_folder(folder):
            view = read_view(shown, content, base)
            name = view.name.lower()  # databases do not tell cases apart
            if name in own:
                raise ConfigurationError(f"{shown}: name: {view.name} is the view of {own[name]} too; rename one")
            own[name] = shown
            if (other := next((known for known in views if known.lower() == name), view.name)) != view.name:
                raise ConfigurationError(
                    f"{shown}: name: {view.name} differs from view {other} by its case only; rename it"
                )
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
    if definition.name.lower() in RESERVED:
        raise ConfigurationError(f"{shown}: name: {definition.name} is made by fhirline itself; choose another name")
    return with_key(shown, compile_view(shown, definition, base, _inferred(definition)), definition)


def _inferred(definition: ViewDefinition) -> dict[str, str]:
    """Return the types of the columns that state none. R4's structures are loaded for them only."""
    if all(column.type is not None for column in definition.all_columns()):
        return {}
    from fhirline.streams.tables.views.inference import inferred_types

    return inferred_types(definition)


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
        unknown = first["type"] == "extra_forbidden"
        message = (
            "no such element in a ViewDefinition; correct its name, or remove it" if unknown else message_of(first)
        )
        raise ConfigurationError(f"{shown}: {_place(first['loc'])}: {message}") from None


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


def _place(location: tuple[int | str, ...]) -> str:
    """Write a place as ``select[0].column[1].path``."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.lstrip(".") or "the document"
