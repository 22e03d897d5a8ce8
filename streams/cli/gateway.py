"""``fhirline gateway``: receive webhooks."""

from pathlib import Path
from typing import Annotated

import typer

from fhirline.streams.cli.help import RUN, add

CONNECT_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    add(app, RUN, "gateway", gateway)


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: FHIRLINE_GATEWAY_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port; 0 takes a free one. Default: FHIRLINE_GATEWAY_PORT."),
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the port here once the gateway listens.")
    ] = None,
) -> None:
    """Receive vendors' webhooks over HTTP and write them to the raw topics.

    Runs until SIGTERM or Ctrl-C, then answers the requests in flight. Needs the vendors' secrets (vendors.yaml). While
    Kafka does not answer, webhooks are answered with 503. Logs go to standard error.

    Exit codes:

    * 0: stopped.
    * 2: a wrong setting, or Kafka refused the credentials, certificates or privileges.
    """
    import asyncio

    import uvloop

    from fhirline.config.errors import KafkaUnreachable
    from fhirline.config.settings import load_settings
    from fhirline.streams.kafka.acl_check import require_privileges
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.server import serve

    own = {"gateway_host": host, "gateway_port": port}
    settings = load_settings(**{name: value for name, value in own.items() if value is not None})
    configure_logging(settings)
    away = None
    try:
        connect(settings, CONNECT_SECONDS)
        require_privileges(settings, "gateway")
    except KafkaUnreachable as error:  # it may start later: until then webhooks are answered with 503
        away = str(error)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, port_file, away))
