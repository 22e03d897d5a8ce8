"""The whole command line, as Typer makes it."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from fhirline.streams.cli import COMMANDS
from fhirline.streams.cli.help import command_line


def application() -> typer.Typer:
    """Make the command line with all commands."""
    app = command_line()
    for name in COMMANDS:
        import_module(f"fhirline.streams.cli.{name.replace('-', '_')}").register(app)
    return app


def commands() -> list[tuple[str, Any]]:
    """Return every command with the words that call it; groups are left out."""
    return list(_below(typer.main.get_command(application()), ()))


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield " ".join(words), command
        return
    for name, subcommand in subcommands.items():
        yield from _below(subcommand, (*words, name))
