"""``fhirline deliver``: send the Bundles to a FHIR server; see what waits there, and resume it."""

from typing import Annotated

import typer

from fhirline.config.exit_codes import NOT_FOUND, UNCOMMITTED
from fhirline.config.settings import load_settings
from fhirline.streams.cli.help import RUN, group
from fhirline.streams.cli.options import AsJson

HELP = """Send the Bundles of `fhir.r4.bundle` to a FHIR R4 server, each patient's in order.

Runs until SIGTERM or Ctrl-C. Start as many processes as you need, up to the number of partitions. A Bundle that the
server refuses becomes a dead letter on `delivery.dead-letter`, and later Bundles of that patient wait.

Exit codes:

* 0: stopped.
* 2: a wrong setting, refused credentials, no FHIR R4 server, or a missing topic or privilege.
* 70: Kafka did not acknowledge a record. It was not committed; start the process again to repeat it.
"""


def register(app: typer.Typer) -> None:
    commands = group(app, "deliver", HELP, RUN)
    commands.info.no_args_is_help = False
    commands.callback(invoke_without_command=True, help=HELP)(deliver)
    commands.command("waiting")(waiting)
    commands.command("resume")(resume)


def deliver(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Base URL of the FHIR server; default: FHIRLINE_FHIR_SERVER.")
    ] = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    import asyncio

    import structlog
    import uvloop
    from confluent_kafka import KafkaException

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.deliver.service import serve
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    settings = load_settings(**({} if server is None else {"fhir_server": server}))
    configure_logging(settings)
    require_topics(settings, "deliver")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (KafkaUnavailable, KafkaException) as error:
        structlog.get_logger("deliver").critical("delivery ends without committing", reason=str(error))
        raise typer.Exit(UNCOMMITTED) from None


def waiting(as_json: AsJson = False) -> None:
    """Print the Bundles that wait: where they are, whose they are, and why. Ids only.

    Exit codes:

    * 0: printed.
    * 2: a wrong setting, a missing topic or privilege, or a cluster that does not answer.
    """
    import orjson

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.deliveries.waiting import read_waiting

    settings = load_settings()
    require_topics(settings)
    found = [
        {
            "bundle": f"fhir.r4.bundle/{state.partition}/{entry.offset}",
            "patients": sorted(entry.patients),
            "code": entry.code,
            "refused": entry.refused,
            "resources": len(entry.keys),
        }
        for state in read_waiting(settings)
        for entry in sorted(state.waiting.values(), key=lambda item: item.offset)
    ]
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    for item in found:
        why = item["code"] if item["refused"] else "behind a Bundle that waits"
        typer.echo(f"{item['bundle']}  {', '.join(map(str, item['patients']))}  {why}")  # type: ignore[call-overload]
    typer.echo(f"{len(found)} waiting")


def resume(
    patient: Annotated[
        list[str] | None, typer.Option(metavar="Patient/ID", help="Whose Bundles are sent; may be repeated.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Send what waits for any patient.")] = False,
) -> None:
    """Order that what waits for a patient is sent, with the current values of its resources.

    A running `fhirline deliver` begins within seconds, another one when it starts. What the server refuses again keeps
    waiting.

    Exit codes:

    * 0: ordered.
    * 1: nothing waits for such a patient.
    * 2: a wrong argument or setting, a missing topic or privilege, or a cluster that does not answer.
    """
    from fhirline.config.errors import ConfigurationError
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.deliveries.waiting import order_resumption, read_waiting

    if bool(patient) == everyone:
        raise ConfigurationError("deliver resume: give either --patient Patient/ID or --all")
    settings = load_settings()
    require_topics(settings)
    ordered = order_resumption(settings, read_waiting(settings), None if everyone else patient)
    typer.echo(f"{ordered} ordered")
    if not ordered:
        raise typer.Exit(NOT_FOUND)
