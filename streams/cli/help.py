"""The command line's help: its groups of commands, and how each command joins it."""

from collections.abc import Callable
from typing import Annotated

import typer

TRY = "Try it"
RUN = "Run"
OPERATE = "Operate"
VENDORS = "Vendors"

_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


def command_line() -> typer.Typer:
    """Make the command line without its commands."""
    app = typer.Typer(
        name="fhirline",
        help="Turn telehealth vendors' webhooks into validated HL7 FHIR R4 resources on Kafka.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # joins the lines of a paragraph
        context_settings=_HELP_OPTIONS,
    )

    # Typer drops the name of a command that is registered alone, unless there is a callback.
    @app.callback()
    def options(
        version: Annotated[  # its callback does the work
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the versions and exit.")
        ] = False,
    ) -> None: ...

    return app


def _print_version(wanted: bool) -> None:
    """Print the version of the package, and those of the mapping and the code tables, which every record names."""
    if not wanted:
        return
    from importlib.metadata import version

    from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION

    typer.echo(f"fhirline {version('fhirline')}, mapping {MAPPING_VERSION}, code tables {MAP_SET_VERSION}")
    raise typer.Exit


def add(app: typer.Typer, panel: str, name: str, command: Callable[..., None]) -> None:
    """Add a command to a panel of the help."""
    app.command(name, rich_help_panel=panel)(command)


def group(app: typer.Typer, name: str, help: str, panel: str | None = None) -> typer.Typer:
    """Add a group of commands."""
    commands = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", context_settings=_HELP_OPTIONS)
    app.add_typer(commands, name=name, help=help, rich_help_panel=panel)
    return commands
