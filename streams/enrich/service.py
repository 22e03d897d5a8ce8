"""The enrichment process: its clients, its signals and its shutdown."""

import asyncio
import signal

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.enrich.infermedica.client import CallFailed, Client, Instance, new_session
from fhirline.streams.enrich.infermedica.instances import instance_of
from fhirline.streams.enrich.metrics import EnrichMetrics
from fhirline.streams.enrich.stage import CODES, VENDOR, Stage, enrich_group
from fhirline.streams.enrich.survey import Fetcher
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.observe.logs import log_loop_error
from fhirline.streams.observe.metrics.endpoint import Endpoint, bind_port
from fhirline.streams.observe.metrics.lookups import Lags
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.observe.tracing import tracing
from fhirline.streams.step1_receive.credentials import Secrets, environment
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.topics.declared import raw_topic

log = structlog.get_logger("enrich")

SCOPES = "{url}/survey.read {url}/evidence_assessment.read"
REFUSED = frozenset({400, 401, 403})


async def serve(settings: Settings) -> None:
    """Enrich until SIGTERM or SIGINT.

    Raises ConfigurationError or KafkaAccessError before anything is read, KafkaUnavailable later.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    instances = _instances(settings)
    registry, tracer, listener = new_registry("enrich"), tracing(settings, "enrich"), bind_port(settings)
    metrics = EnrichMetrics(registry, VENDOR, CODES)
    async with new_session() as session:
        fetchers: dict[tuple[str, str], Fetcher] = {}
        of_tenant: dict[str, Fetcher] = {}
        for tenant, instance in instances.items():
            account = (instance.url, instance.client_id)
            if account not in fetchers:
                client = Client(session, instance, settings.infermedica_timeout, settings.message_max_bytes)
                await _check_credentials(client, instance)
                fetchers[account] = Fetcher(client, settings, stopping)
            of_tenant[tenant] = fetchers[account]
        producer = RawProducer(settings, tracer)
        endpoint = None
        watch = KafkaWatch(settings)
        watch.start()
        try:
            stage = Stage(
                settings, producer, lambda tenant: of_tenant.get(tenant) or of_tenant[DEFAULTS], metrics, tracer
            )
            Lags(registry, enrich_group(settings), {raw_topic(VENDOR): settings.partitions}, stage.lags)
            if listener is not None:
                endpoint = Endpoint(listener, registry, lambda: watch.problems() or stage.problems())
                await endpoint.start()
            tune_gc()
            log.info("enriching", tenants=sorted(instances), bootstrap=settings.bootstrap)
            await stage.run(stopping)
        finally:
            if endpoint is not None:
                await endpoint.stop()
            await producer.stop()
            watch.stop()
            if tracer is not None:
                await asyncio.to_thread(tracer.stop)
    log.info("enrichment stopped")


DEFAULTS = "*"
"""Key of the tenants that vendors.yaml does not list; it cannot be a tenant's name."""


def _instances(settings: Settings) -> dict[str, Instance]:
    """Return the instance of each tenant whose events are enriched. Raises ConfigurationError where none is."""
    vendors = load_vendors(settings.vendors_file)
    if VENDOR not in vendors.names:
        raise ConfigurationError(f"{settings.vendors_file or 'vendors.yaml'}: vendors.{VENDOR} is missing")
    vendor = vendors[VENDOR]
    enriched = [tenant for tenant in (DEFAULTS, *vendor.tenants) if vendor.settings(tenant).enrichment]
    if not enriched:
        raise ConfigurationError(
            f"{settings.vendors_file or 'vendors.yaml'}: no tenant of {VENDOR} has `enrichment: true`; events "
            "that are skipped now would not be enriched later"
        )
    secrets = Secrets(environment())
    return {tenant: instance_of(settings, tenant, secrets, SCOPES) for tenant in enriched}


async def _check_credentials(client: Client, instance: Instance) -> None:
    """Fetch a token once, so that wrong credentials end the process instead of dead-lettering every survey."""
    try:
        await client.token()
    except CallFailed as failure:
        if failure.status in REFUSED:
            raise ConfigurationError(
                f"{instance.url} refuses the OAuth client credentials ({failure.code}): check client id, secret and "
                "scopes (FHIRLINE_INFERMEDICA_*, or the tenant's `instance` in vendors.yaml)"
            ) from None
        log.warning("instance not ready", url=instance.url, code=failure.code)
