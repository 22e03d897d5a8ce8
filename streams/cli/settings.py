"""``fhirline settings``: every setting, its value here, and its meaning."""

import os

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings, load_settings
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.cli.output import print_table

COLUMNS = ("environment variable", "value", "meaning")


def register(app: typer.Typer) -> None:
    add(app, TRY, "settings", settings)


def settings() -> None:
    """Print every setting, its present value and its meaning. Secrets are masked.

    Variables with the prefix that nothing reads are named on standard error: most are mistyped.
    """
    current = load_settings()
    rows = (
        (PREFIX + name.upper(), str(getattr(current, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    print_table(COLUMNS, rows)
    for name in _unread(current):
        warn("settings", f"{name}: nothing reads this variable; check its spelling")


def _unread(current: Settings) -> list[str]:
    from fhirline.config.vendors import load_vendors
    from fhirline.streams.operate.doctor.configuration import unread_variables

    try:
        vendors = load_vendors(current.vendors_file)
    except ConfigurationError as error:
        warn("settings", str(error))
        return []
    return unread_variables(vendors, os.environ)
