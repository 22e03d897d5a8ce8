"""The process of a fill: its clients, its phases, its signals and its shutdown."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

from fhirline.config.settings import Settings
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.bundle_topic import bundle_topic, forget_earlier_offsets
from fhirline.streams.deliver.completion import Completion
from fhirline.streams.deliver.fhir_client import FhirServer
from fhirline.streams.deliver.fill.fill import Fill, Report
from fhirline.streams.deliver.fill.membership import AnotherDelivers, Membership
from fhirline.streams.deliver.fill.snapshot import Snapshot
from fhirline.streams.deliver.fill.versions import Versions
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.deliver.outcome import Outcomes
from fhirline.streams.deliver.purge import Purge
from fhirline.streams.deliver.sending import Delivery, DeliveryAbandoned
from fhirline.streams.deliver.service import most_entries, usable
from fhirline.streams.deliver.shared import SharedLane
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.deliver.state import DeliveredPartition
from fhirline.streams.deliver.state_feed import StateFeed
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed


@dataclass(frozen=True, slots=True)
class Reporting:
    """Receives how far a fill has come. ``waiting``: a line. ``read``: of a topic. ``sent``: with the total."""

    waiting: Callable[[str], None]
    read: Callable[[str, int], None]
    sent: Callable[[Report, int], None]


async def fill(settings: Settings, workers: bool, everything: bool, reporting: Reporting) -> Report | None:
    """Fill the server, and return what was done; None where SIGTERM or SIGINT came before the end.

    ``workers``: whether the workers' group has members. Raises ConfigurationError, KafkaAccessError, KafkaUnavailable,
    and AnotherDelivers where another process joins the delivery's group meanwhile.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    metrics = DeliverMetrics(new_registry("deliver"))
    async with FhirServer(settings, authorization(settings)) as server:
        if not await usable(settings, server, stopping):
            return None
        producer = RawProducer(settings)
        limiter = Limiter(settings.deliver_requests)
        erasures = ErasureListFeed(settings)
        completion = Completion(settings, erasures)
        delivery = Delivery(settings, server, limiter, metrics, most_entries(settings, server), completion)
        shared = SharedLane(settings, delivery, producer)
        purge = Purge(settings, server, limiter, metrics)
        outcomes = Outcomes(settings, delivery, shared, purge, erasures, producer, metrics)
        following = asyncio.create_task(erasures.keep_fresh())
        try:
            await erasures.ensure_fresh()  # raises where patients were erased under another key
            async with Membership(settings, deliver_group(settings)) as membership:
                await membership.owned(stopping)
                return await _fill(
                    settings, workers, everything, reporting, delivery, shared, outcomes, membership, stopping
                )
        except DeliveryAbandoned:
            if membership.lost:
                raise AnotherDelivers from None
            return None
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            erasures.close()
            shared.close()
            await producer.stop()


async def _fill(
    settings: Settings,
    workers: bool,
    everything: bool,
    reporting: Reporting,
    delivery: Delivery,
    shared: SharedLane,
    outcomes: Outcomes,
    membership: Membership,
    stopping: asyncio.Event,
) -> Report | None:
    versions = await asyncio.to_thread(Versions(settings, workers).decide, reporting.waiting, stopping.is_set)
    if stopping.is_set():
        return None

    def read(topic: str, records: int) -> None:
        if stopping.is_set() or membership.lost:
            raise DeliveryAbandoned
        reporting.read(topic, records)

    with Snapshot(settings) as snapshot:
        await asyncio.to_thread(snapshot.read, read)
        await shared.start()
        states = await asyncio.to_thread(_states, settings)
        id = await asyncio.to_thread(bundle_topic, settings)
        for state in states.values():
            await forget_earlier_offsets(state, id, versions[state.partition], outcomes.write)
        total = len(snapshot)
        filling = Fill(
            settings,
            delivery,
            shared,
            outcomes,
            states,
            versions,
            snapshot,
            membership,
            stopping.is_set,
            everything,
        )
        report = await filling.run(lambda report: reporting.sent(report, total))
    membership.finish(versions)
    return report


def _states(settings: Settings) -> dict[int, DeliveredPartition]:
    """Read all partitions of the state. Raises KafkaAccessError."""
    feed = StateFeed(settings)
    try:
        states = {number: DeliveredPartition(number) for number in range(settings.partitions)}
        for state in states.values():
            feed.restore(state)
    finally:
        feed.close()
    return states
