"""``fhirline tables views`` and ``fhirline tables dictionary``: the views as they are, without Kafka or a database."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import PROBLEM_FOUND, UNUSABLE
from fhirline.config.settings import Settings, load_settings
from fhirline.streams.cli.generated import print_or_compare
from fhirline.streams.cli.options import AsJson
from fhirline.streams.cli.output import Cell, print_json, print_table

if TYPE_CHECKING:
    from fhirline.streams.tables.views import View


def views(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="ViewDefinitions of your own; default: FHIRLINE_TABLES_VIEWS."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Report what is wrong with the views of the folder, or with those that ship."),
    ] = False,
    explain: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="VIEW FILE", help="Show the rows that a file's resources have in a view. FILE may be -."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the views that tables are made of, check them, or show the rows of a resource.

    --check compares each view with FHIR R4 too: a misspelt element would give a column that is always NULL.
    --explain takes one resource, a list, a Bundle, or a resource per line. It prints what they hold, patient data too.

    Exit codes:

    * 0: done, and --check found nothing.
    * 1: --check found something. Each line names the file, the place in it, what is wrong and what to do.
    * 2: a wrong setting, view or file.

    Examples:

    ```console
    $ fhirline tables views --check ./views
    $ fhirline tables views --explain dosage resource.json
    ```
    """
    settings = load_settings()
    folders = [item for item in (folder or settings.tables_views,) if item is not None]
    if check:
        _check(settings, folders, as_json)
        return
    from fhirline.streams.tables.views import load_views

    loaded = load_views(*folders, base=settings.base)
    if explain is not None:
        _explain(loaded, *explain, as_json)
        return
    if as_json:
        print_json([_described(view) for view in loaded.values()])
        return
    print_table(
        ("view", "resource", "columns", "key", "contains"),
        (
            (view.name, view.resource, len(view.columns), ", ".join(view.key), view.description)
            for view in loaded.values()
        ),
    )


def dictionary(
    check: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Compare with this file instead, and print nothing."),
    ] = None,
) -> None:
    """Print the data dictionary, every table with its columns, as Markdown.

    It has the views that ship and those of FHIRLINE_TABLES_VIEWS.

    Exit codes:

    * 0: printed, or FILE is the same.
    * 1: FILE differs; its first line that differs is on standard error.
    * 2: a wrong setting or view, or FILE cannot be read.
    """
    from fhirline.streams.tables.catalog import load_catalog
    from fhirline.streams.tables.dictionary import as_markdown

    current = as_markdown(load_catalog(load_settings()).tables.values())
    print_or_compare(current, check, "the views", "fhirline tables dictionary")


def _check(settings: Settings, folders: Sequence[Path], as_json: bool) -> None:
    from fhirline.streams.tables.view_checks import check_folders

    problems = check_folders(folders, settings.base)
    if as_json:
        print_json({"problems": problems})
    else:
        print("\n".join(problems) or "Nothing is wrong.")
    if problems:
        raise typer.Exit(PROBLEM_FOUND)


def _explain(loaded: "dict[str, View]", name: str, file: Path, as_json: bool) -> None:
    from fhirline.streams.cli.errors import failing_with
    from fhirline.streams.cli.options import known_values
    from fhirline.streams.tables.views import ViewFailed

    known_values("--explain", [name], loaded)
    view = loaded[name]
    with failing_with("tables views", {ViewFailed: UNUSABLE}):
        found = [row for resource in _resources(file) for row in view.rows(resource)]
    if as_json:
        names = [column.name for column in view.columns]
        print_json([dict(zip(names, row, strict=True)) for row in found])
        return
    print_table(
        ("row", "column", "value", "from"),
        (
            (number, column.name, _cell(value), column.path)
            for number, row in enumerate(found, 1)
            for column, value in zip(view.columns, row, strict=True)
        ),
    )


def _cell(value: Any) -> Cell:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _resources(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the resources of a file. Raises ConfigurationError."""
    import orjson

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--explain: cannot read {file}: {error.strerror}") from None
    try:
        documents = [orjson.loads(content)]
    except orjson.JSONDecodeError:
        try:
            documents = [orjson.loads(line) for line in content.splitlines() if line.strip()]
        except orjson.JSONDecodeError:
            raise ConfigurationError(f"--explain: {file} is neither JSON nor a JSON document per line") from None
    for document in documents:
        for item in document if isinstance(document, list) else [document]:
            if not isinstance(item, dict) or "resourceType" not in item:
                raise ConfigurationError(f"--explain: {file} has something that is no FHIR resource: no resourceType")
            if item["resourceType"] == "Bundle":
                yield from (entry["resource"] for entry in item.get("entry", ()) if "resource" in entry)
            else:
                yield item


def _described(view: "View") -> dict[str, Any]:
    return {
        "name": view.name,
        "resource": view.resource,
        "description": view.description,
        "key": view.key,
        "columns": [
            {"name": column.name, "type": column.type, "description": column.description, "path": column.path}
            for column in view.columns
        ],
        "indexes": [{"name": index.name, "columns": index.columns} for index in view.indexes],
        "references": {reference.column: f"{reference.view}.{reference.key}" for reference in view.references},
        "digest": view.digest,
    }
