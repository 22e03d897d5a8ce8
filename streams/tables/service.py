"""The process of ``fhirline tables``: its thread, its signals, its metrics and its shutdown."""

import asyncio
import signal
import threading

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.observe.logs import log_loop_error
from fhirline.streams.observe.metrics.endpoint import Endpoint, bound
from fhirline.streams.observe.metrics.lookups import Lags
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.follower import Follower
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.topics import read_topics
from fhirline.topics.tables_group import shared_tables_group, tables_group

log = structlog.get_logger("tables")


async def serve(settings: Settings, drop_gone: bool = False, until_end: bool = False) -> None:
    """Keep the tables until SIGTERM or SIGINT; ``until_end``: or until the topics were read to their ends.

    Raises ConfigurationError, KafkaAccessError, StoreAway (at the start only), OtherWriter and UnfitRows.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    registry, listener = new_registry("tables"), bound(settings)
    catalog, topics, store = load_catalog(settings), read_topics(settings), open_store(settings)
    endpoint = None
    watch = KafkaWatch(settings)
    watch.start()
    try:
        follower = Follower(settings, store, catalog, topics, TablesMetrics(registry), stopping.is_set, until_end)
        read = {name: sum(place.topic == name for place in topics.partitions) for name in topics.ids}
        Lags(registry, shared_tables_group(settings) or tables_group(settings), read, follower.lags)
        if listener is not None:
            endpoint = Endpoint(listener, registry, lambda: watch.problems() or follower.problems())
            await endpoint.start()
        tune_gc()
        await asyncio.to_thread(follower.run, drop_gone)
    finally:
        if endpoint is not None:
            await endpoint.stop()
        store.close()
        watch.stop()
    log.info("tables stopped")
