"""Reading ``raw.<vendor>``: one Faust app, one agent a raw topic, and when an offset may be committed.

The invariant, for each event: **ack only after everything that follows from it has been acknowledged by Kafka.** Only
what was acked is committed, so a worker that dies anywhere before that is given the event again. What keeps it:

1. `take_batches` acks nothing by itself; the agent does, in order, once `BatchProcessor.process` is past its barrier.
   What is committed then is what `Positions` knows to be delivered, with no record passed over before it.
2. Nothing raises out of an agent's body: Faust would go on past the failed batch, and commit over it. One event's
   trouble is its dead letter (step4); trouble of the infrastructure ends the process at once, uncommitted
   (`exit_uncommitted`).
3. Nothing is mapped by old knowledge of who is erased (`streams.step3_restore.erased`).
4. A worker that was paused longer than the group waits for it may have lost its partitions to another: `Fence` ends
   it before it writes anything stale.

faust.md §4.2 names the failure behind each setting of Faust.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import faust
import structlog

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.acl_check import missing_acls
from fhirline.streams.kafka.clients import faust_credentials
from fhirline.streams.kafka.records import TopicPartition, from_faust
from fhirline.streams.step2_consume.batch import BatchProcessor
from fhirline.streams.step2_consume.endpoint import WorkerEndpoint
from fhirline.streams.step2_consume.faust.batching import take_batches
from fhirline.streams.step2_consume.faust.offsets import LogEndsBefore, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from fhirline.streams.step2_consume.fencing import Fence, exit_uncommitted, exit_uncommitted_on
from fhirline.streams.step3_restore.erased import Follower, Heeding
from fhirline.streams.step5_publish.publish import PRODUCERS, RecordPublisher
from fhirline.topics.declared import ENRICHED, enriched_topic, raw_topic

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing

log = structlog.get_logger("worker")

READ_ON_EVERY = 5.0
"""Seconds between two looks at whether a partition stands still although there are records."""

PRIVILEGES_EVERY = 15.0
"""Seconds between two looks at whether this process still may do what it does."""


def build_app(
    settings: Settings,
    normalize: Normalizer,
    vendors: Sequence[str],
    watched: WorkerEndpoint,
    tracing: "Tracing | None" = None,
) -> faust.App:
    """The Faust app with an agent for each raw topic. It reads; nothing is ever sent through Faust.

    Raises ConfigurationError where patients were erased with another key than this process has.
    """
    app = faust.App(
        settings.group,
        broker=[f"aiokafka://{server}" for server in settings.bootstrap.split(",")],
        broker_credentials=faust_credentials(settings),
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 10,
        broker_request_timeout=settings.session_timeout + 30,
        broker_commit_interval=0.5,
        broker_max_poll_records=500,
        stream_buffer_maxsize=65_536,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    positions = Positions(settings)
    app.transport = WorkerTransport(app.conf.broker_consumer, app, positions)
    fence = Fence(settings.session_timeout)
    publisher = RecordPublisher(settings, PRODUCERS)
    follower = Follower(settings)
    follower.refresh()  # without the key that patients were erased with, nothing begins
    heeding = Heeding(follower)

    def batches(vendor: str, enriched: bool = False) -> BatchProcessor:
        return BatchProcessor(
            vendor, settings, normalize, publisher, fence, heeding, watched.metrics, tracing, enriched
        )

    processors = {raw_topic(vendor): batches(vendor) for vendor in vendors}
    processors |= {enriched_topic(vendor): batches(vendor, enriched=True) for vendor in vendors if vendor in ENRICHED}
    watched.look_up(app, {topic: processor.state for topic, processor in processors.items()})

    preparing: set[asyncio.Future[None]] = set()  # a loop forgets tasks that nobody holds

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def fencing() -> None:
        await fence.tick()

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def allowed() -> None:
        """Faust may wait for ever, in silence, once it may not join its group any more."""
        while True:
            await asyncio.sleep(PRIVILEGES_EVERY)
            if lacking := await asyncio.to_thread(missing_acls, settings, "worker"):
                exit_uncommitted("authorization was taken away", lacking=lacking)

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def reading_on() -> None:
        while True:
            await asyncio.sleep(READ_ON_EVERY)
            try:
                await cast(WorkerConsumer, app.consumer).read_on()
            except LogEndsBefore as error:  # Faust would drop what comes until the old end is reached, and commit then
                exit_uncommitted_on("the log ends before what is committed", error)

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def following() -> None:
        await heeding.keep()

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def serving() -> None:
        await watched.serve()

    @app.on_partitions_assigned.connect
    async def on_assigned(*args: Any, **_: Any) -> None:
        assigned = args[-1]
        positions.assigned(TopicPartition(each.topic, each.partition) for each in assigned)
        for topic, processor in processors.items():
            processor.state.assigned(each.partition for each in assigned if each.topic == topic)
            preparing.add(task := asyncio.ensure_future(processor.prepare()))
            task.add_done_callback(preparing.discard)
        shown = sorted(f"{each.topic}/{each.partition}" for each in assigned if each.topic in processors)
        log.info("partitions assigned", partitions=shown)

    @app.on_partitions_revoked.connect
    async def on_revoked(*_: Any, **__: Any) -> None:
        """Faust has waited for every batch in hand by now, and has tried to commit what they came to."""
        positions.revoked()

    for topic, processor in processors.items():
        _add_agent(app, topic, processor, positions, settings)
    return app


def _add_agent(app: faust.App, topic: str, processor: BatchProcessor, positions: Positions, settings: Settings) -> None:
    @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name=topic)
    async def agent(stream: Any) -> None:
        try:
            async for events in take_batches(stream, settings.batch_size, settings.batch_within):
                raws = await positions.complete([from_faust(event.message) for event in events])
                await processor.process(raws)
                positions.delivered(raws)
                for event in events:
                    await stream.ack(event)
        except Exception as error:  # noqa: BLE001  # rule 2 above, also for what the stream itself raises
            # A cancellation is none: Faust stops the agent in the midst of a batch, of which nothing is acked yet.
            exit_uncommitted_on("a batch could not be delivered", error)
