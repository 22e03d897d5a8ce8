"""``fhirline demo``: all four vendors' webhooks become FHIR on Kafka topics, read back by a consumer, in a minute."""

import signal

import typer

from fhirline.config.exit_codes import INTERRUPTED, STACK_FAILED
from fhirline.streams.cli.errors import failing_with, warn
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.observe.interrupt import ENDING


def register(app: typer.Typer) -> None:
    add(app, TRY, "demo", demo)


def demo() -> None:
    """Show how synthetic webhooks of all four vendors become FHIR resources on Kafka.

    Starts a broker, a gateway and a worker, posts the webhooks, reads the resources back, makes SQL tables of them, and
    ends all processes. The tables stay as `fhirline-demo.duckdb` in the current folder, in the place of an earlier
    demo's. They need the extra `tables`; without it the demo ends before them.

    The broker is embedded, unless `FHIRLINE_BOOTSTRAP` names a cluster. A cluster that has topics or a group of
    fhirline is refused. On another one the run has a group, a BASE and a tenant of its own, and deletes its topics at
    the end.

    Exit codes:

    * 0: every expected resource arrived.
    * 1: something is missing, or a process failed; the reason is on standard error.
    * 2: a wrong setting, or the cluster is in use or does not answer.
    * 130: interrupted.
    """
    from fhirline.streams.cli.demo.show import show
    from fhirline.streams.demo.stack import StackFailed

    for number in ENDING:  # as Ctrl-C, so that every process is ended
        signal.signal(number, signal.default_int_handler)
    with failing_with("demo", {StackFailed: STACK_FAILED, KeyboardInterrupt: INTERRUPTED}):
        failures = show()
    for failure in failures:
        warn("demo", failure)
    if failures:
        raise typer.Exit(STACK_FAILED)
