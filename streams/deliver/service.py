"""The delivery process: its clients, its signals and its shutdown."""

import asyncio
import signal

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.capabilities import require_capabilities
from fhirline.streams.deliver.completion import Completion
from fhirline.streams.deliver.fhir_client import FhirServer
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.deliver.purge import Purge
from fhirline.streams.deliver.sending import Delivery
from fhirline.streams.deliver.stage import Stage, deliver_group
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.observe.logs import log_loop_error
from fhirline.streams.observe.metrics.endpoint import Endpoint, bind_port
from fhirline.streams.observe.metrics.lookups import Lags
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import BUNDLE

log = structlog.get_logger("deliver")


async def serve(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT.

    Raises ConfigurationError, also later where the server refuses our credentials; KafkaAccessError; KafkaUnavailable.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    registry, listener = new_registry("deliver"), bind_port(settings)
    metrics = DeliverMetrics(registry)
    async with FhirServer(settings, authorization(settings)) as server:
        if not await usable(settings, server, stopping):
            return
        limiter = Limiter(settings.deliver_requests)
        metrics.slots.set_function(lambda: limiter.limit)
        producer = RawProducer(settings)
        endpoint = None
        watch = KafkaWatch(settings)
        watch.start()
        try:
            erasures = ErasureListFeed(settings)
            completion = Completion(settings, erasures)
            delivery = Delivery(settings, server, limiter, metrics, most_entries(settings, server), completion)
            purge = Purge(settings, server, limiter, metrics)
            stage = Stage(settings, delivery, purge, erasures, producer, metrics)
            Lags(registry, deliver_group(settings), {BUNDLE: settings.partitions}, stage.lags)
            if listener is not None:
                endpoint = Endpoint(listener, registry, lambda: watch.problems() or stage.problems())
                await endpoint.start()
            tune_gc()
            log.info("delivering", server=server.base, bootstrap=settings.bootstrap)
            await stage.run(stopping)
        finally:
            if endpoint is not None:
                await endpoint.stop()
            await producer.stop()
            watch.stop()
    log.info("delivery stopped")


def most_entries(settings: Settings, server: FhirServer) -> int:
    """Return how many entries a transaction has at most, once the server's profile is known."""
    return min(settings.deliver_entries, server.profile.entries or settings.deliver_entries)


async def usable(settings: Settings, server: FhirServer, stopping: asyncio.Event) -> bool:
    """Wait until the server answers, and log what it is and lacks; return False where the process is stopped meanwhile.

    Raises ConfigurationError where it is no FHIR R4 server.
    """
    checking = asyncio.create_task(require_capabilities(server, settings))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((checking, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not checking.done():
        checking.cancel()
        return False
    if isinstance(error := checking.exception(), ConfigurationError):
        raise error
    found = checking.result()
    log.info(
        "the FHIR server is known as",
        profile=found.profile,
        chosen="by its CapabilityStatement" if settings.fhir_profile == "auto" else "by the setting",
        software=found.software,
        tried=server.profile.tried,
        transactions=server.profile.transactions,
    )
    for lack in found.lacks:
        log.warning("the server lacks", what=lack)
    return True
