"""``fhirline worker``: one Faust process of the consumer group."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from fhirline.config.exit_codes import DONE, UNCOMMITTED
from fhirline.streams.cli.help import RUN, add
from fhirline.streams.cli.options import known_vendors

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.mappers.fhir.validation import Disagreement


def register(app: typer.Typer) -> None:
    add(app, RUN, "worker", worker)


def worker() -> None:
    """Map the raw topics to FHIR resources on the canonical topics.

    Runs until SIGTERM or Ctrl-C. Start as many workers as you need, up to the number of partitions. Needs the topics
    (`fhirline topics apply`); reads the vendors of `FHIRLINE_VENDORS`.

    Exit codes:

    * 0: stopped.
    * 2: a wrong setting, or a missing topic or privilege.
    * 70: delivery could not be guaranteed, or the brokers were lost while it started. Nothing of a batch in hand was
      committed; start the worker again to repeat it.
    """
    from fhirline.config.settings import load_settings
    from fhirline.mappers.registry import VENDORS
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.logs import configure_logging

    settings = load_settings()
    configure_logging(settings)
    vendors = settings.vendors or VENDORS
    known_vendors("FHIRLINE_VENDORS", vendors, VENDORS)
    require_topics(settings, "worker")
    run(settings, vendors)


def run(settings: "Settings", vendors: Sequence[str]) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    import asyncio

    import faust
    import structlog

    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.streams.observe.gc_tuning import tune_gc
    from fhirline.streams.observe.logs import log_loop_error
    from fhirline.streams.observe.malloc_tuning import tune_malloc
    from fhirline.streams.observe.tracing import tracing
    from fhirline.streams.step2_consume.app import Worker
    from fhirline.streams.step2_consume.endpoint import WorkerEndpoint

    endpoint, tracer = WorkerEndpoint(settings), tracing(settings, "worker")
    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:  # no wheel for this platform: the standard loop is slower
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(log_loop_error)

    def disagreed(found: "Disagreement") -> None:
        endpoint.metrics.disagreed(found)
        _log_disagreement(found)

    normalize = build_normalizer(settings, disagreed)
    normalize.validate({"resourceType": "Patient"})  # compiles the schemas now, not in the first batch
    app = Worker(settings, normalize, vendors, endpoint, tracer).app
    tune_gc()
    tune_malloc()
    process = faust.Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    process.spinner = None  # it writes escape codes even without a terminal
    endpoint.watch.start()
    try:
        process.execute_from_commandline()
    except SystemExit as end:  # Faust's own code for a failure is 1
        if end.code == DONE:
            structlog.get_logger("worker").info("worker stopped")
            raise
        structlog.get_logger("worker").critical(
            "worker failed", remedy="none: the worker is started again, and repeats the batch"
        )
        raise SystemExit(UNCOMMITTED) from None
    finally:
        endpoint.watch.stop()
        if tracer is not None:
            tracer.stop()


def _log_disagreement(found: "Disagreement") -> None:
    """Log that the compiled validator and fhir.resources disagree: a defect of one of them."""
    import structlog

    from fhirline.mappers.fhir.validation import problems_text

    log = structlog.get_logger("worker")
    by = "compiled" if found.compiled else "fhir.resources"
    problems = problems_text(found.compiled or found.reference)
    log.warning("validators disagree", resource=found.resource_type, refused_by=by, problems=problems)
