"""The process of ``fhirline tables``: its thread, its signals, its metrics and its shutdown."""

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from fhirline.config.settings import Settings
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.observe.logs import log_loop_error
from fhirline.streams.observe.metrics.endpoint import Endpoint, bind_port
from fhirline.streams.observe.metrics.lookups import Lags
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.tables.catalog import Catalog, load_catalog
from fhirline.streams.tables.follower import Follower
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.open_store import is_lakehouse, open_lakehouse, open_store
from fhirline.streams.tables.topics import Topics, read_topics
from fhirline.topics.tables_group import shared_tables_group, tables_group

if TYPE_CHECKING:
    from fhirline.streams.tables.delta.keeper import LakeKeeper

log = structlog.get_logger("tables")


async def serve(settings: Settings, drop_gone: bool = False, until_end: bool = False) -> None:
    """Keep the tables until SIGTERM or SIGINT; ``until_end``: or until the topics were read to their ends.

    Raises ConfigurationError, KafkaAccessError, StoreUnavailable (at the start only), OtherWriter and UnfitRows.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    registry, listener = new_registry("tables"), bind_port(settings)
    catalog, topics = load_catalog(settings), read_topics(settings)
    endpoint = None
    follower, close = _follower(settings, catalog, topics, TablesMetrics(registry), stopping.is_set, until_end)
    watch = KafkaWatch(settings)
    watch.start()
    try:
        read = {name: sum(partition.topic == name for partition in topics.partitions) for name in topics.ids}
        Lags(registry, shared_tables_group(settings) or tables_group(settings), read, follower.lags)
        if listener is not None:
            endpoint = Endpoint(listener, registry, lambda: watch.problems() or follower.problems())
            await endpoint.start()
        tune_gc()
        await asyncio.to_thread(follower.run, drop_gone)
    finally:
        if endpoint is not None:
            await endpoint.stop()
        close()
        watch.stop()
    log.info("tables stopped")


def _follower(
    settings: Settings,
    catalog: Catalog,
    topics: Topics,
    metrics: TablesMetrics,
    stopping: Callable[[], bool],
    until_end: bool,
) -> "tuple[Follower | LakeKeeper, Callable[[], None]]":
    """Return the keeper of the tables, and the function that closes its database."""
    if is_lakehouse(settings):
        lakehouse = open_lakehouse(settings)
        from fhirline.streams.tables.delta.keeper import LakeKeeper

        return LakeKeeper(settings, lakehouse, catalog, topics, metrics, stopping, until_end), lambda: None
    store = open_store(settings)
    return Follower(settings, store, catalog, topics, metrics, stopping, until_end), store.close
