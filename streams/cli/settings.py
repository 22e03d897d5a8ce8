"""``fhirline settings``: every setting, its value here, and its meaning."""

import typer

from fhirline.config.settings import PREFIX, Settings, load_settings
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.cli.output import print_table

COLUMNS = ("environment variable", "value", "meaning")


def register(app: typer.Typer) -> None:
    add(app, TRY, "settings", settings)


def settings() -> None:
    """Print every setting, its present value and its meaning. Secrets are masked."""
    current = load_settings()
    rows = (
        (PREFIX + name.upper(), str(getattr(current, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    print_table(COLUMNS, rows)
