"""``fhirline worker``: one Faust process of the consumer group."""

from collections.abc import Sequence

import structlog
import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings, load_settings
from fhirline.mappers.fhir.validation import Disagreement, problems_text
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.acl_check import require_privileges
from fhirline.streams.kafka.connect import connect
from fhirline.topics.declared import declared

CONNECT_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    app.command("worker")(worker)


def worker() -> None:
    """Map raw.<vendor> to fhir.r4.*. Run as many as there are partitions; SIGTERM leaves the group in order.

    Exit 0: stopped. Exit 2: a wrong setting or missing topics. Exit 70: something could not be delivered; nothing of
    that batch was committed, and starting the worker again repeats it.
    """
    settings = load_settings()
    vendors = settings.vendors or VENDORS
    if unknown := sorted(set(vendors) - set(VENDORS)):
        raise ConfigurationError(f"FHIRLINE_VENDORS: unknown vendor {unknown[0]!r}; known: {', '.join(VENDORS)}")
    require_topics(settings, "worker")
    run(settings, vendors)


def require_topics(settings: Settings, process: str | None = None) -> None:
    """Every declared topic must be there with the partitions that the settings say: keys land by that number.

    And ``process`` must have its privileges (topics/privileges.py). Raises ConfigurationError.
    """
    present = connect(settings, CONNECT_SECONDS).topics
    if process is not None:
        require_privileges(settings, process)
    unseen = "" if settings.security_protocol == "PLAINTEXT" else ", or this Kafka user may not see it"
    for topic in declared(settings):
        if topic.name not in present:
            raise ConfigurationError(f"topic {topic.name} is missing{unseen}: run `fhirline topics apply`")
        if (found := len(present[topic.name].partitions)) != topic.partitions:
            raise ConfigurationError(
                f"topic {topic.name} has {found} partitions, FHIRLINE_PARTITIONS says {topic.partitions}: "
                "a key must never move, so set the number that the topics were made with"
            )


def run(settings: Settings, vendors: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    import asyncio

    import faust

    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.streams.observe.gc_tuning import tune_gc
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.observe.tracing import tracing
    from fhirline.streams.step2_consume.app import Worker
    from fhirline.streams.step2_consume.endpoint import WorkerEndpoint

    configure_logging(settings)
    endpoint, tracer = WorkerEndpoint(settings), tracing(settings, "worker")
    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:  # no wheel for this platform: slower, the same otherwise
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def disagreed(found: Disagreement) -> None:
        endpoint.metrics.disagreed(found)
        _log_disagreement(found)

    normalize = build_normalizer(settings, disagreed)
    normalize.validate({"resourceType": "Patient"})  # compiles the schemas now, not in the first batch
    app = Worker(settings, normalize, vendors, endpoint, tracer).app
    tune_gc()
    process = faust.Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    process.spinner = None  # it writes escape codes, terminal or not
    try:
        process.execute_from_commandline()
    finally:
        if tracer is not None:
            tracer.stop()


def _log_disagreement(found: Disagreement) -> None:
    """Our validator and fhir.resources do not agree: a defect of one of them, never a lost event."""
    log = structlog.get_logger("worker")
    by = "compiled" if found.compiled else "fhir.resources"
    problems = problems_text(found.compiled or found.reference)
    log.warning("validators disagree", resource=found.resource_type, refused_by=by, problems=problems)
