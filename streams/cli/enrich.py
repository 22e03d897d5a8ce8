"""``fhirline enrich``: complete Infermedica's thin events."""

import sys

import typer

from fhirline.config.settings import load_settings

EXIT_FAILED = 70


def register(app: typer.Typer) -> None:
    app.command("enrich")(enrich)


def enrich() -> None:
    """Fetch the results of finished Infermedica surveys into raw.infermedica.enriched.

    For tenants with `enrichment: true`. A survey that cannot be fetched becomes a dead letter. Run as many as there are
    partitions; SIGTERM gives up what waits for a retry, uncommitted, so that it is fetched after the next start.

    Exit 0: stopped. Exit 2: a wrong setting, refused credentials or missing topics. Exit 70: Kafka did not acknowledge;
    nothing of that was committed, and starting again repeats it.
    """
    import asyncio

    import structlog
    import uvloop
    from confluent_kafka import KafkaException

    from fhirline.streams.cli.worker import require_topics
    from fhirline.streams.enrich.service import serve
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    settings = load_settings()
    require_topics(settings, "enrich")
    configure_logging(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (KafkaUnavailable, KafkaException) as error:
        structlog.get_logger("enrich").critical("enrichment ends without committing", reason=str(error))
        sys.exit(EXIT_FAILED)
