"""``fhirline deliver``: send the Bundles to a FHIR server; see what waits there, and resume it."""

from enum import StrEnum
from typing import Annotated

import typer

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.config.settings import load_settings
from fhirline.streams.cli.deliver_verify import verify
from fhirline.streams.cli.deliver_waiting import resume, waiting
from fhirline.streams.cli.help import RUN, group

HELP = """Send the Bundles of `fhir.r4.bundle` to a FHIR R4 server, each patient's in order.

Runs until SIGTERM or Ctrl-C. Start as many processes as you need, up to the number of partitions. A Bundle that the
server refuses becomes a dead letter on `delivery.dead-letter`, and later Bundles of that patient wait.

With `--from topics` the command fills a server, or repairs one, and ends: it sends the newest value of each resource of
all `fhir.r4.*` topics, shared types first, then patient by patient, and deletes what has a tombstone. No other
`fhirline deliver` may run meanwhile. One that is started afterwards goes on where the values end. A killed fill can be
run again: what was sent is not sent again.

Exit codes:

* 0: stopped; with --from topics: all was sent.
* 1: with --from topics: the server refused something, which waits; all else was sent.
* 2: a wrong setting, refused credentials, no FHIR R4 server, or a missing topic or privilege.
* 70: Kafka did not acknowledge a record. It was not committed; start the process again to repeat it. With
  --from topics also: another process began to deliver.
* 130: with --from topics: interrupted.
"""


class Source(StrEnum):
    """The topics that resources are taken from."""

    bundles = "bundles"
    topics = "topics"


def register(app: typer.Typer) -> None:
    commands = group(app, "deliver", HELP, RUN)
    commands.info.no_args_is_help = False
    commands.callback(invoke_without_command=True, help=HELP)(deliver)
    commands.command("waiting")(waiting)
    commands.command("resume")(resume)
    commands.command("verify")(verify)


def deliver(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Base URL of the FHIR server; default: FHIRLINE_FHIR_SERVER.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--from", help="bundles: follow the Bundles; topics: send the newest values, and end.")
    ] = Source.bundles,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="With --from topics: send what was sent before too; the server lost it."),
    ] = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    import asyncio

    import structlog
    import uvloop
    from confluent_kafka import KafkaException

    from fhirline.config.errors import ConfigurationError
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.cli.deliver_fill import fill_from_topics
    from fhirline.streams.deliver.service import serve
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    if everything and source is not Source.topics:
        raise ConfigurationError("--everything: only with --from topics")
    settings = load_settings(**({} if server is None else {"fhir_server": server}))
    configure_logging(settings)
    require_topics(settings, "deliver")
    if source is Source.topics:
        return fill_from_topics(settings, everything)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (KafkaUnavailable, KafkaException) as error:
        structlog.get_logger("deliver").critical("delivery ends without committing", reason=str(error))
        raise typer.Exit(UNCOMMITTED) from None
