"""``fhirline gateway``: receive webhooks."""

from pathlib import Path
from typing import Annotated

import typer

CONNECT_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    app.command("gateway")(gateway)


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: FHIRLINE_GATEWAY_HOST")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one; default: FHIRLINE_GATEWAY_PORT")
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the port here once the gateway listens")
    ] = None,
) -> None:
    """Receive vendors' webhooks over HTTP and keep them in Kafka's raw topics.

    Runs until SIGTERM or Ctrl-C, then answers what is in flight and exits with 0. Logs go to standard error.

    Exit 2: a wrong setting, or Kafka refuses its credentials, certificates or privileges. Where Kafka does not answer,
    it goes on, and answers 503 until it does.
    """
    import asyncio

    import structlog
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
    try:
        connect(settings, CONNECT_SECONDS)
        require_privileges(settings, "gateway")
    except KafkaUnreachable as away:  # it may come: until then webhooks are answered 503
        structlog.get_logger().warning("kafka away", reason=str(away))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, port_file))
