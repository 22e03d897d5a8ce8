"""``fhirline dev``: the demo's stack, running until Ctrl-C."""

import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.exit_codes import STACK_FAILED
from fhirline.streams.cli.errors import failing_with
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.observe.interrupt import ENDING

if TYPE_CHECKING:
    from fhirline.streams.demo.stack import Stack

CHECK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    add(app, TRY, "dev", dev)


def dev(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the gateway; 0 takes a free one.")] = 8080,
    kafka_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the embedded broker; 0 takes a free one.")
    ] = 0,
    console_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the console; 0 takes a free one.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide the log lines of the processes.")] = False,
) -> None:
    """Run a broker, a gateway, a worker and the console until Ctrl-C.

    The broker is embedded and keeps data in memory only, unless `FHIRLINE_BOOTSTRAP` names a cluster. A cluster that
    has topics or a group of fhirline is refused. On another one the run has a group, a BASE and a tenant of its own,
    and deletes its topics at the end.

    Exit codes:

    * 0: stopped.
    * 1: a process failed; its last lines are on standard error.
    * 2: a wrong setting, or the cluster is in use or does not answer.
    """
    from rich.console import Console

    from fhirline.streams.demo.stack import Stack, StackFailed

    for number in ENDING:  # as Ctrl-C, so that every process is ended
        signal.signal(number, signal.default_int_handler)
    console = Console()

    def show_step(step: str) -> None:
        console.print(f"  {step}", style="dim", highlight=False)

    echo = (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    with (
        failing_with("dev", {StackFailed: STACK_FAILED}),
        suppress(KeyboardInterrupt),
        Stack(say=show_step, echo=echo, port=port, kafka_port=kafka_port) as stack,
    ):
        address = stack.start_console(console_port)
        console.print(_instructions(stack, address), highlight=False, soft_wrap=True)
        try:
            while True:
                time.sleep(CHECK_SECONDS)
                stack.check()
        except KeyboardInterrupt:
            console.print("stopping ...")


def _instructions(stack: "Stack", console: str) -> str:
    """Describe how to use the running stack. ``console``: the address that opens the console.

    Only secrets that were made for this run are shown.
    """
    from fhirline.mappers.registry import VENDORS
    from fhirline.streams.demo.paths import program, sample_path

    headers = {vendor: _shown_header(stack, vendor) for vendor in VENDORS}
    tenant = "" if stack.embedded else f"/{stack.tenant}"
    return "\n".join(
        [
            "\n[bold]Running.[/] Ctrl-C stops everything. Credentials:",
            *(f"  {vendor:<12} {header}" for vendor, header in headers.items()),
            f"\nConsole: {console}",
            "\nTry:",
            f"  curl -H 'content-type: application/json' -H \"{headers['altibbi']}\" \\",
            f"       --data @{sample_path('altibbi-status.json')} {stack.url}/webhooks/altibbi{tenant}",
            "\nIn another terminal, other commands work on this stack after:",
            f"  set -a; . {stack.environment_file}; set +a",
            f"  {program()} dead-letters list",
            "It has this stack's own encryption secrets and erasure key. docs/commands.md has more.",
        ]
    )


def _shown_header(stack: "Stack", vendor: str) -> str:
    name, value = next(iter(stack.header(vendor).items()))
    return f"{name}: ${stack.own_secrets[vendor]}" if vendor in stack.own_secrets else f"{name}: {value}"
