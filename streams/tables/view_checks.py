"""Checks of views against the structures of FHIR R4: names of elements, types and cardinalities of columns.

A view with a misspelt element loads and has NULL in every row. R4's structures take a second to load, so that only
``fhirline tables views --check`` and the tests check views so.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.fhir.validation.structures import RESOURCE_TYPES
from fhirline.streams.tables.views.definition import ViewDefinition
from fhirline.streams.tables.views.inference import Inference
from fhirline.streams.tables.views.loading import load_views, read_definition, read_folder, read_view
from fhirline.streams.tables.views.view import ANY_RESOURCE
from fhirline.streams.tables.without_identities.rules import require_rules


def findings(definition: ViewDefinition) -> list[str]:
    """Return what is wrong with a view that compiles, as ``place: problem``. Empty: nothing was found."""
    if definition.resource == ANY_RESOURCE:
        return []
    if definition.resource not in RESOURCE_TYPES:
        known = ", ".join(sorted(RESOURCE_TYPES))
        return [f"resource: no {definition.resource} is published, so that the table stays empty; there are {known}"]
    return [*Inference(definition).findings()]


def check_folders(folders: Sequence[Path], base: str) -> list[str]:
    """Return what is wrong with the views of folders, or without any with those that ship, as ``file: place: problem``.

    Raises ConfigurationError where a folder cannot be read.
    """
    found = []
    checked: Sequence[Any] = folders or [files("fhirline.config") / "views"]
    for folder in checked:
        for shown, content in read_folder(folder):
            try:
                require_rules(read_view(shown, content, base))
                found += [f"{shown}: {finding}" for finding in findings(read_definition(shown, content))]
            except ConfigurationError as error:
                found.append(str(error))
    if not found:
        try:
            load_views(*folders, base=base)
        except ConfigurationError as error:  # of several files: a name twice, a reference to nothing
            found.append(str(error))
    return found
