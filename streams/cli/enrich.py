"""``fhirline enrich``: complete Infermedica's thin events."""

import typer

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.config.settings import load_settings
from fhirline.streams.cli.help import RUN, add


def register(app: typer.Typer) -> None:
    add(app, RUN, "enrich", enrich)


def enrich() -> None:
    """Fetch the results of finished Infermedica surveys into `raw.infermedica.enriched`.

    Runs until SIGTERM or Ctrl-C, for the tenants with `enrichment: true` in vendors.yaml. Start as many processes as
    you need, up to the number of partitions. A survey that cannot be fetched becomes a dead letter. Surveys that wait
    for a retry when the process stops are fetched after the next start.

    Exit codes:

    * 0: stopped.
    * 2: a wrong setting, refused credentials, or a missing topic or privilege.
    * 70: Kafka did not acknowledge a record. It was not committed; start the process again to repeat it.
    """
    import asyncio

    import structlog
    import uvloop
    from confluent_kafka import KafkaException

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.enrich.service import serve
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    settings = load_settings()
    configure_logging(settings)
    require_topics(settings, "enrich")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (KafkaUnavailable, KafkaException) as error:
        structlog.get_logger("enrich").critical("enrichment ends without committing", reason=str(error))
        raise typer.Exit(UNCOMMITTED) from None
