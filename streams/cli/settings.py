"""``fhirline settings``: every setting, its value here, and what it is for."""

import sys

import typer

from fhirline.config.settings import PREFIX, Settings, load_settings

COLUMNS = ("environment variable", "value", "meaning")


def register(app: typer.Typer) -> None:
    app.command("settings")(settings)


def settings() -> None:
    """Print every setting with its present value (secrets masked): a table, or lines with tabs without a terminal."""
    current = load_settings()
    rows = [
        (PREFIX + name.upper(), str(getattr(current, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    if not sys.stdout.isatty():
        for row in (COLUMNS, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in COLUMNS))
    for row in rows:
        table.add_row(*row)
    Console().print(table)
