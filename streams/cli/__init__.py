"""``fhirline``: one command line. Each command is a module here, and imports what it needs when it is called."""

import sys
from importlib import import_module

from fhirline.streams.cli.errors import run
from fhirline.streams.cli.help import command_line

COMMANDS = (
    "demo",
    "dev",
    "map",
    "settings",
    "gateway",
    "worker",
    "enrich",
    "deliver",
    "tables",
    "topics",
    "status",
    "doctor",
    "dead-letters",
    "trace",
    "console",
    "replay",
    "ingest",
    "forget",
    "keys",
    "infermedica",
    "terminology",
    "export",
    "conformance",
    "vendor",
)
"""The commands in the order of the help. Each is a module, or a package, of its name with ``_`` for ``-``.

Each has ``register(app)``.
"""


def main() -> None:
    """Run the command line and exit."""
    run(_command_line)


def _command_line() -> None:
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    app = command_line()
    for name in (called,) if called in COMMANDS else COMMANDS:  # a command does not wait for the others' imports
        import_module(f"fhirline.streams.cli.{name.replace('-', '_')}").register(app)
    app()
