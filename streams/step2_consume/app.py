"""The worker: a Faust app with an agent for each raw topic and one for Practitioners, and tasks beside the agents.

**When an offset may be committed.** The offset after an event is committed only once Kafka has acknowledged every
record that follows from that event and from every event before it in its partition.

**Why nothing is lost.** A worker that dies, at whatever moment, has committed no event whose records are not durable.
The next owner of the partition begins at the committed offset, so it maps every other event again. Mapping an event
twice is harmless: it writes the same bytes under the same keys, and state keeps the greatest version (state.md §1).

Four rules keep this:

1. The agent acknowledges a batch only after `BatchProcessor.process` has returned. What is committed is what
   `Positions` counts as delivered, with no record skipped before it.
2. No exception leaves an agent's body, because Faust would go on behind the failed batch and commit over it. A failure
   of one event becomes its dead letter (step 4). A failure of the infrastructure ends the process at once, uncommitted
   (`exit_uncommitted`).
3. Nothing is mapped on old knowledge of the erasure list (`streams.step3_restore.erasure_list_feed`).
4. A worker that was paused for longer than the group waits may have lost its partitions. `Fence` ends it before it
   writes anything stale.

And one rule keeps a partition from being blocked by an event:

5. An event over which processes have ended becomes a dead letter (`streams.step2_consume.unfinished`).

The agent of ``fold.practitioner`` keeps the same rules: its records are what raw events contribute to Practitioners
(`streams.step2_consume.practitioners`).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import faust
import structlog

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.acl_check import missing_acls
from fhirline.streams.kafka.clients import faust_credentials
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_faust
from fhirline.streams.step2_consume.batch import BatchProcessor
from fhirline.streams.step2_consume.endpoint import WorkerEndpoint
from fhirline.streams.step2_consume.faust.batching import take_batches
from fhirline.streams.step2_consume.faust.hooks import require_hooks
from fhirline.streams.step2_consume.faust.offset_gaps import Committed
from fhirline.streams.step2_consume.faust.offsets import LogTruncated, Positions
from fhirline.streams.step2_consume.faust.transport import WorkerConsumer, WorkerTransport
from fhirline.streams.step2_consume.fencing import (
    Fence,
    exit_uncommitted,
    exit_uncommitted_after,
    exit_uncommitted_on,
)
from fhirline.streams.step2_consume.practitioners import PractitionerProcessor
from fhirline.streams.step2_consume.unfinished import Unfinished
from fhirline.streams.step3_restore.client_id import client_id
from fhirline.streams.step3_restore.erasure_list import hashing
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step3_restore.topic_cache import TopicCache
from fhirline.streams.step5_publish.publish import PRODUCERS, RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, ENRICHED, enriched_topic, raw_topic

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing

log = structlog.get_logger("worker")

STALL_CHECK_SECONDS = 5.0
"""Time between two checks for partitions whose fetched records never came."""

PRODUCER_LOG_SECONDS = 1.0

PRIVILEGE_CHECK_SECONDS = 15.0
"""Time between two checks that this process still has its privileges."""


def faust_settings(settings: Settings) -> dict[str, Any]:
    """Return Faust's settings. Each comment names the failure that a setting prevents (faust.md §4.2)."""
    return {
        # Faust's confluent driver drops headers.
        "broker": [f"aiokafka://{server}" for server in settings.bootstrap.split(",")],
        "broker_credentials": faust_credentials(settings),
        # `fhirline forget` warns of a worker that has no erasure key.
        "broker_client_id": client_id("worker", hashing(settings)),
        # exactly_once sends records for topics that the app does not consume outside its transactions.
        "processing_guarantee": "at_least_once",
        # A value that does not decode ends the agent without a word: bytes are decoded in its body.
        "key_serializer": "raw",
        "value_serializer": "raw",
        # With "latest" a new group would skip all events that came before its first commit.
        "consumer_auto_offset_reset": "earliest",
        "broker_session_timeout": settings.session_timeout,
        # Fence and delivery timeout are shares of the session, and count on a heartbeat that is far more frequent.
        "broker_heartbeat_interval": settings.session_timeout / 10,
        # Faust refuses a request timeout that is shorter than the session timeout.
        "broker_request_timeout": settings.session_timeout + 30,
        # With Faust's 2.8 s a killed worker's successor repeats more.
        "broker_commit_interval": 0.5,
        # Unlimited, a backlog arrives at once, and workers were reported to hang in a rebalance.
        "broker_max_poll_records": 500,
        # When all buffers are full the consumer sleeps for a whole second. Faust's 4,096 fill within one.
        "stream_buffer_maxsize": 65_536,
        # Otherwise a rebalance takes partitions away under the batch that is being delivered.
        "stream_wait_empty": True,
        # Topics are declared in topics/declared.py. Faust would create its own, and a leader topic, too.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        # The worker's endpoint is ours (`WorkerEndpoint`); Faust's web server would take a second port.
        "web_enabled": False,
    }


class EndingInTime(faust.App):
    """A Faust app that ends within ``stop_timeout`` seconds.

    Faust waits without end for events that nothing will acknowledge any more, as those are that a cancelled agent had
    taken. Ending uncommitted loses nothing: it is what a killed worker does.
    """

    logger = logging.getLogger("faust.app")  # mode's lines about each step; otherwise named after this module

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.group, **faust_settings(settings))
        self._stop_timeout = settings.stop_timeout
        self.closed_at_end: list[Callable[[], None]] = []
        """Functions that close what the agents use. They are called in a thread when the agents have ended."""

    async def on_stop(self) -> None:
        log.info("worker stopping")
        exit_uncommitted_after(self._stop_timeout)
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        for close in self.closed_at_end:
            await asyncio.to_thread(close)


class Processor(Protocol):
    """Processes the batches of one topic."""

    @property
    def state(self) -> TopicCache[Any]:
        """Return the state that is restored before a batch."""

    async def prepare(self) -> None:
        """Restore the partitions just assigned."""

    async def process(self, raws: Sequence[ConsumerRecord], unfinished: Unfinished, /) -> None:
        """Return once everything that follows from the records is durable."""


class Worker:
    """One process of the consumer group. ``app`` is its Faust app; nothing is ever sent through it.

    Raises ConfigurationError where patients were erased under another secret than this process has, and HookMissing
    where the installed Faust or aiokafka is not the one that it was written for.
    """

    def __init__(
        self,
        settings: Settings,
        normalize: Normalizer,
        vendors: Sequence[str],
        endpoint: WorkerEndpoint,
        tracing: "Tracing | None" = None,
    ) -> None:
        require_hooks()
        self._settings = settings
        self._endpoint = endpoint
        self._fence = Fence(settings.session_timeout)
        self._ticking: asyncio.Future[None] | None = None
        self._positions = Positions(settings)
        self._unfinished = Unfinished(self._positions.found, self.commit_marked)
        self._erasures = ErasureListFeed(settings)
        self._opener = Opener(settings)
        self._erasures.refresh()  # before anything begins: without its secret nothing may be mapped
        self._restoring: set[asyncio.Future[None]] = set()
        """Restores under way. The event loop itself keeps no reference to a task."""
        self.app = EndingInTime(settings)
        self.app.closed_at_end += [self._opener.close, self._erasures.close]
        self.app.transport = WorkerTransport(self.app.conf.broker_consumer, self.app, self._positions)
        self._publisher = publisher = RecordPublisher(settings, PRODUCERS)

        def new_processor(vendor: str, enriched: bool = False) -> BatchProcessor:
            return BatchProcessor(
                vendor,
                settings,
                normalize,
                publisher,
                self._fence,
                self._erasures,
                self._opener,
                endpoint.metrics,
                tracing,
                enriched,
            )

        self._processors: dict[str, Processor] = {raw_topic(vendor): new_processor(vendor) for vendor in vendors}
        self._processors |= {
            enriched_topic(vendor): new_processor(vendor, enriched=True) for vendor in vendors if vendor in ENRICHED
        }
        self._processors[CONTRIBUTIONS] = PractitionerProcessor(
            settings, normalize, publisher, self._fence, endpoint.metrics
        )
        endpoint.look_up(self.app, {topic: processor.state for topic, processor in self._processors.items()})
        self._register()

    def _register(self) -> None:
        """Hand agents, tasks and hooks to the app."""
        for topic in self._processors:
            raw = self.app.topic(topic, key_serializer="raw", value_serializer="raw")
            self.app.agent(raw, name=topic)(self._agent(topic))
        for task in (
            self.tick_fence,
            self.check_privileges,
            self.resume_stalled_partitions,
            self.follow_erasure_list,
            self.serve_endpoint,
            self.serve_producer_logs,
        ):
            self.app.task(task)
        self.app.on_partitions_assigned.connect(self.on_assigned)
        self.app.on_partitions_revoked.connect(self.on_revoked)

    def _agent(self, topic: str) -> Callable[[Any], Coroutine[Any, Any, None]]:
        processor = self._processors[topic]

        async def agent(stream: Any) -> None:
            cast(WorkerTransport, self.app.transport).streams[topic] = stream
            await self.consume(stream, processor)

        return agent

    async def consume(self, stream: Any, processor: Processor) -> None:
        """Process one topic's events, batch by batch, and acknowledge each batch once it is delivered."""
        try:
            async for events in take_batches(stream, self._settings.batch_size, self._settings.batch_within):
                records = await self._positions.fill_gaps([from_faust(event.message) for event in events])
                for part in self._unfinished.parts(records):
                    await processor.process(part, self._unfinished)
                    self._positions.mark_delivered(part)
                self._positions.end_batch(records)
                for event in events:
                    await stream.ack(event)
        except Exception as error:  # noqa: BLE001  # rule 2, also for what the stream itself raises
            # A cancellation is not caught: Faust cancels an agent within a batch of which nothing is acknowledged yet.
            exit_uncommitted_on("a batch could not be delivered", error)

    async def commit_marked(self, marked: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets with their marks (rule 5)."""
        await cast(WorkerConsumer, self.app.consumer).commit_marked(marked)

    async def tick_fence(self) -> None:
        """End the process after a pause of the event loop (rule 4). Faust starts this, and cancels it at the end."""
        await self._ticker()

    def _ticker(self) -> asyncio.Future[None]:
        """Return the fence's ticker. The first assignment begins it: Faust starts its tasks a little later."""
        if self._ticking is None:
            self._fence.check()
            self._ticking = asyncio.ensure_future(self._fence.tick())
        return self._ticking

    async def check_privileges(self) -> None:
        """End the process once it lacks a privilege: Faust would wait for its group forever, without a log line."""
        while True:
            await asyncio.sleep(PRIVILEGE_CHECK_SECONDS)
            if lacking := await asyncio.to_thread(missing_acls, self._settings, "worker"):
                exit_uncommitted("authorization was taken away", lacking=lacking)

    async def resume_stalled_partitions(self) -> None:
        """Read on where Faust dropped the last records of a partition, and end the process where a log was cut off."""
        while True:
            await asyncio.sleep(STALL_CHECK_SECONDS)
            try:
                await cast(WorkerConsumer, self.app.consumer).resume_stalled()
            except LogTruncated as error:  # Faust would drop all records below the old end, and commit behind it
                exit_uncommitted_on("the log ends before what is committed", error)

    async def follow_erasure_list(self) -> None:
        """Keep the erasure list fresh, so that no batch waits for it (rule 3)."""
        await self._erasures.keep_fresh()

    async def serve_endpoint(self) -> None:
        """Serve metrics and readiness."""
        await self._endpoint.serve()

    async def serve_producer_logs(self) -> None:
        """Log librdkafka's lines when they are written, also while no batch is published."""
        while True:
            self._publisher.serve_logs()
            await asyncio.sleep(PRODUCER_LOG_SECONDS)

    async def on_assigned(self, *args: Any, **_: Any) -> None:
        """Begin an assignment: drop other partitions' state and positions, and restore the new ones."""
        self._ticker()
        assigned = [TopicPartition(*tp) for tp in args[-1]]
        self._positions.on_assigned(assigned)
        self._opener.keep(partition.partition for partition in assigned if partition.topic != CONTRIBUTIONS)
        for topic, processor in self._processors.items():
            processor.state.assigned(partition.partition for partition in assigned if partition.topic == topic)
            self._restoring.add(task := asyncio.ensure_future(processor.prepare()))
            task.add_done_callback(self._restoring.discard)
        shown = sorted(str(partition) for partition in assigned if partition.topic in self._processors)
        log.info("partitions assigned", partitions=shown)

    async def on_revoked(self, *_: Any, **__: Any) -> None:
        """End an assignment. Faust has waited for every batch under way by now, and has tried to commit it."""
        self._positions.on_revoked()
        self._unfinished.on_revoked()
