"""``fhirline dev``: the demo's stack, left running."""

import signal
import sys
import threading
from typing import Annotated

import typer
from rich.console import Console

from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.stack import Stack, StackFailed

CHECK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    app.command("dev")(dev)


def dev(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the gateway; 0 takes a free one")] = 8080,
    kafka_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the embedded broker; 0 takes a free one")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Without the processes' log lines")] = False,
) -> None:
    """Start broker, gateway and worker and leave them running until Ctrl-C; then end them all.

    The broker is embedded and keeps nothing, unless FHIRLINE_BOOTSTRAP names a cluster.
    """
    console = Console()
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())

    def say(step: str) -> None:
        console.print(f"  {step}", style="dim", highlight=False)

    echo = (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    try:
        with Stack(say=say, echo=echo, port=port, kafka_port=kafka_port) as stack:
            if not stopped.is_set():
                console.print(_how(stack), highlight=False, soft_wrap=True)
            while not stopped.wait(CHECK_SECONDS):
                stack.check()
            console.print("ending ...")
    except StackFailed as error:
        print(f"fhirline dev: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _how(stack: Stack) -> str:
    """Everything that somebody needs to use the running stack. Only secrets that were made for this run are shown."""
    headers = {vendor: _shown_header(stack, vendor) for vendor in VENDORS}
    return "\n".join(
        [
            "\n[bold]Running.[/] Ctrl-C ends it all. Credentials:",
            *(f"  {vendor:<12} {header}" for vendor, header in headers.items()),
            "\nTry:",
            f"  curl -H 'content-type: application/json' -H \"{headers['altibbi']}\" \\",
            f"       --data @streams/demo/samples/altibbi-status.json {stack.url}/webhooks/altibbi",
            f"  FHIRLINE_BOOTSTRAP={stack.settings.bootstrap} .venv/bin/fhirline topics list",
        ]
    )


def _shown_header(stack: Stack, vendor: str) -> str:
    name, value = next(iter(stack.header(vendor).items()))
    return f"{name}: ${stack.own_secrets[vendor]}" if vendor in stack.own_secrets else f"{name}: {value}"
