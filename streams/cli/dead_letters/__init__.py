"""``fhirline dead-letters``: events that could not be mapped, and sending them through the mapping again."""

import typer

from fhirline.streams.cli.dead_letters.export import export
from fhirline.streams.cli.dead_letters.filter import FilterOptions
from fhirline.streams.cli.dead_letters.list import list_
from fhirline.streams.cli.dead_letters.redrive import redrive
from fhirline.streams.cli.dead_letters.show import show
from fhirline.streams.cli.help import OPERATE, group
from fhirline.streams.cli.options import from_options


def register(app: typer.Typer) -> None:
    commands = group(
        app, "dead-letters", "List, show, redrive and export the events that could not be mapped.", OPERATE
    )
    commands.command("list")(from_options(FilterOptions, list_, without={"id"}))
    commands.command("show")(show)
    commands.command("redrive")(from_options(FilterOptions, redrive))
    commands.command("export")(from_options(FilterOptions, export))
