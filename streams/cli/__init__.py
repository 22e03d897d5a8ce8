"""``fhirline``: one command line. Each command is a module here and imports what it needs when it is called."""

import sys
from importlib import import_module

import typer

from fhirline.config.errors import ConfigurationError, KafkaAccessError

COMMANDS = (
    "demo",
    "dev",
    "map",
    "gateway",
    "worker",
    "enrich",
    "status",
    "doctor",
    "dead-letters",
    "replay",
    "topics",
    "ingest",
    "infermedica",
    "trace",
    "forget",
    "settings",
)
"""Command → module ``streams.cli.<name>_command``, in the order of the help text; each has ``register(app)``.

A ``-`` in a command's name is a ``_`` in its module's.
"""

app = typer.Typer(
    name="fhirline",
    help="Telehealth vendors' webhooks in, validated HL7 FHIR R4 resources out, on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _fhirline() -> None:
    """Keeps commands by their names, also where only one of them has been registered."""


def main() -> None:
    """Run one command. A wrong setting, file or table, and a failure to reach Kafka, are one line and exit code 2."""
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in (called,) if called in COMMANDS else COMMANDS:  # a command does not wait for the others' imports
        import_module(f"fhirline.streams.cli.{name.replace('-', '_')}").register(app)
    try:
        app()
    except (ConfigurationError, KafkaAccessError) as error:
        print(f"fhirline: {error}", file=sys.stderr)
        sys.exit(2)
