"""``fhirline settings``: every setting, its value here, and what it is for."""

import typer
from rich.console import Console
from rich.table import Table

from config.settings import PREFIX, Settings, load_settings


def register(app: typer.Typer) -> None:
    app.command("settings")(settings)


def settings() -> None:
    """Print every setting with its present value (secrets masked)."""
    current = load_settings()
    table = Table("environment variable", "value", "meaning")
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), str(getattr(current, name)), field.description or "")
    Console().print(table)
