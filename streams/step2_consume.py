"""Reading ``raw.<vendor>``: one Faust app, one agent a raw topic, and when an offset may be committed.

The invariant, for each event: **ack only after everything that follows from it has been acknowledged by Kafka.** Faust
commits only what was acked, so a worker that dies anywhere before that is given the event again. What keeps it:

1. ``noack_take`` acks nothing by itself; the agent does, in order, once `BatchProcessor.process` is past its barrier.
2. Nothing raises out of an agent's body: Faust would go on past the failed batch, and commit over it. One event's
   trouble is its dead letter (step4); trouble of the infrastructure ends the process at once, uncommitted (`die`).
3. Nothing is mapped by old knowledge of who is erased (`streams.erasure.follower`).
4. A worker that was paused longer than the group waits for it may have lost its partitions to another: `Fence` ends
   it before it writes anything stale.

What Faust needs besides was found the hard way: engine.md names the failure behind each setting.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faust
import structlog
from confluent_kafka import Message

from config.settings import Settings
from mappers.normalize import Normalized, Normalizer
from streams.erasure.follower import Follower, Heeding
from streams.fence import Fence, breathing, die
from streams.headers import EVENT_KEY, header
from streams.kafka import faust_credentials
from streams.metrics.watched import Watched
from streams.metrics.worker import VendorMetrics, WorkerMetrics
from streams.privileged import taken_away
from streams.prompt_transport import PromptTransport
from streams.records import OutRecord, RawRecord
from streams.step3_restore import PartitionState, RegisterTooLarge, StateCache
from streams.step4_normalize import TOO_LARGE, follow, not_remembered, smaller_letters, too_large_letter
from streams.step5_deliver import Deliverer, DeliveryFailed
from topics.declared import ENRICHED, dead_letter_topic, enriched_topic, raw_topic, state_topic

if TYPE_CHECKING:
    from streams.tracing.spans import Tracing

log = structlog.get_logger("worker")

PRIVILEGES_EVERY = 15.0
"""Seconds between two looks at whether this process still may do what it does."""

MAX_CONSTANTS = 100_000


class BatchProcessor:
    """What the agent of a raw topic does with a batch: restore, map, deliver; then its events may be acked."""

    def __init__(
        self,
        vendor: str,
        settings: Settings,
        normalize: Normalizer,
        deliverer: Deliverer,
        fence: Fence,
        heeding: Heeding,
        metrics: WorkerMetrics,
        tracing: "Tracing | None" = None,
        enriched: bool = False,
    ) -> None:
        self.vendor = vendor
        self._metrics = VendorMetrics(metrics, vendor, normalize.terminology.names)
        self._tracing = tracing
        self._telling = settings.log_level == "debug"
        self.state = StateCache(settings, state_topic(vendor, enriched))
        self._partitions = settings.partitions
        self._largest = settings.message_max_bytes
        self._normalize = normalize
        self._deliverer = deliverer
        self._fence = fence
        self._heeding = heeding
        self._restoring = asyncio.Lock()
        self._constants: dict[bytes, bytes | None] = {}  # what has been acknowledged: the same again says nothing new

    async def process(self, raws: Sequence[RawRecord]) -> None:
        """Returns once everything that follows from ``raws`` is durable. Raises DeliveryFailed, RestoreFailed."""
        batch = self._metrics.batch()
        spans = self._tracing.batch(raws[0].topic, len(raws)) if self._tracing else None
        states = await self._ready({raw.partition for raw in raws})
        records: list[OutRecord] = []
        constants: dict[bytes, bytes | None] = {}
        sources: dict[int, RawRecord] = {}
        async for raw in breathing(raws):
            state = states[raw.partition]
            span = spans.begin(raw) if spans else None
            followed = follow(raw, self._normalize, state, self._partitions, self._heeding.erased.blocks)
            try:
                told = state.told(self.state.topic, raw.partition, followed.key, followed.statements, self._largest)
            except RegisterTooLarge:
                followed, told = not_remembered(raw, self.state.topic), []
            if spans and span:
                followed = spans.carried(followed, span)
            batch.event(followed)
            for record in followed.records:
                if record.constant:
                    if record.value in (self._constants.get(record.key), constants.get(record.key)):
                        batch.unchanged.append(record.topic)
                        continue
                    constants[record.key] = record.value
                sources[id(record)] = raw
                records.append(record)
            records.extend(told)
            if self._telling and followed.normalized:
                _log_mapped(raw, followed.normalized)
            if followed.error:
                _log_letter(raw, followed.records[-1], followed.error)
            elif followed.erased:
                log.info("erased patient passed over", vendor=self.vendor, event_key=followed.erased)
        self._fence.check()
        if any(self.state.held(each) is not state for each, state in states.items()):
            die("partitions went away under a batch")  # stale output would land behind their new owner's
        batch.delivered(raws, records, *await self._deliver(records, sources))
        if spans:
            spans.end()
        if len(self._constants) > MAX_CONSTANTS:
            self._constants.clear()
        self._constants.update(constants)

    async def _deliver(
        self, records: list[OutRecord], sources: dict[int, RawRecord]
    ) -> tuple[Sequence[OutRecord], int]:
        """The barrier. A record too large for Kafka becomes its raw record's dead letter, inside the same barrier.

        Returns the records that were too large, and how many letters speak of them.
        """
        too_large = await self._deliverer.deliver_beside(self._fence.passing(records), self._delivered)
        letters: dict[str, OutRecord] = {}
        of: dict[int, RawRecord] = {}
        for record in too_large:
            if (raw := sources.get(id(record))) is None:
                # `told` lets none through that the settings allow: the topic was made with less, and mending it helps.
                raise DeliveryFailed(f"{record.topic}: takes less than FHIRLINE_MESSAGE_MAX_BYTES: `fhirline doctor`")
            own = record.topic == dead_letter_topic(raw.vendor)  # it says already what is wrong
            letter = letters.setdefault(raw.coordinates, record if own else too_large_letter(raw, record.topic))
            of[id(letter)] = raw
            _log_letter(raw, letter, TOO_LARGE, topic=record.topic)
        for large in await self._deliverer.deliver_beside(letters.values()):
            for smaller in smaller_letters(of[id(large)], large):
                if not await self._deliverer.deliver_beside([smaller]):
                    break
            else:
                raise DeliveryFailed(f"{large.topic}: takes less than a dead letter without key and value")
        return too_large, len(letters)

    async def prepare(self) -> None:
        """Restore what has just been assigned, so that the first batch need not wait for it."""
        try:
            await self._restored(set())
        except Exception as error:  # noqa: BLE001  # without state nothing may be mapped
            die("state could not be restored", error=type(error).__name__, detail=_safe(error))

    async def _ready(self, partitions: set[int]) -> dict[int, PartitionState]:
        """States to map by, and knowledge of who is erased that is fresh when the batch begins."""
        while True:
            states = await self._restored(partitions)
            if self._heeding.fresh:  # restoring takes what time it takes
                return states
            await self._heeding.look()

    async def _restored(self, partitions: set[int]) -> dict[int, PartitionState]:
        async with self._restoring:
            if self.state.look_due and (behind := await asyncio.to_thread(self.state.behind)):
                read = await asyncio.to_thread(self.state.restore, behind)
                log.info("state read on", topic=self.state.topic, partitions=len(behind), records=read)
            # All that is assigned and unread, in one go: a consumer's first answer takes longer than most states.
            while missing := self.state.unread() | {each for each in partitions if self.state.ready(each) is None}:
                started = time.monotonic()
                read = await asyncio.to_thread(self.state.restore, missing)
                seconds = round(time.monotonic() - started, 3)
                log.info(
                    "state restored", topic=self.state.topic, partitions=len(missing), records=read, seconds=seconds
                )
        return {each: self.state.partition(each) for each in partitions}

    def _delivered(self, record: Message) -> None:
        if record.topic() == self.state.topic and (state := self.state.ready(record.partition() or 0)):
            state.delivered(record.offset() or 0)


def build_app(
    settings: Settings,
    normalize: Normalizer,
    vendors: Sequence[str],
    watched: Watched,
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
    app.transport = PromptTransport(app.conf.broker_consumer, app)
    fence = Fence(settings.session_timeout)
    deliverer = Deliverer(settings)
    follower = Follower(settings)
    follower.refresh()  # without the key that patients were erased with, nothing begins
    heeding = Heeding(follower)

    def batches(vendor: str, enriched: bool = False) -> BatchProcessor:
        return BatchProcessor(
            vendor, settings, normalize, deliverer, fence, heeding, watched.metrics, tracing, enriched
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
            if lacking := await asyncio.to_thread(taken_away, settings, "worker"):
                die("authorization was taken away", lacking=lacking)

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def following() -> None:
        await heeding.keep()

    @app.task  # type: ignore[untyped-decorator]  # Faust's own
    async def serving() -> None:
        await watched.serve()

    @app.on_partitions_assigned.connect
    async def on_assigned(*args: Any, **_: Any) -> None:
        assigned = args[-1]
        for topic, processor in processors.items():
            processor.state.assigned(each.partition for each in assigned if each.topic == topic)
            preparing.add(task := asyncio.ensure_future(processor.prepare()))
            task.add_done_callback(preparing.discard)
        shown = sorted(f"{each.topic}/{each.partition}" for each in assigned if each.topic in processors)
        log.info("partitions assigned", partitions=shown)

    for topic, processor in processors.items():
        _add_agent(app, topic, processor, settings)
    return app


def _add_agent(app: faust.App, topic: str, processor: BatchProcessor, settings: Settings) -> None:
    @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name=topic)
    async def agent(stream: Any) -> None:
        async for events in stream.noack_take(settings.batch_size, within=settings.batch_within):
            try:
                await processor.process([_raw_record(processor.vendor, event.message) for event in events])
                for event in events:
                    await stream.ack(event)
            except Exception as error:  # noqa: BLE001  # rule 2 above
                # A cancellation is none: Faust stops the agent in the midst of a batch, of which nothing is acked yet.
                die("a batch could not be delivered", error=type(error).__name__, detail=_safe(error))


def _raw_record(vendor: str, message: Any) -> RawRecord:
    return RawRecord(
        vendor,
        message.topic,
        message.partition,
        message.offset,
        round((message.timestamp or 0) * 1000),
        message.key,
        message.value,
        list(message.headers.items() if isinstance(message.headers, dict) else message.headers or ()),
    )


def _log_mapped(raw: RawRecord, normalized: Normalized) -> None:
    shown = {"raw": raw.coordinates, "event_key": normalized.stamp.event_key, "event_type": normalized.event_type}
    log.debug("event mapped", vendor=raw.vendor, **shown, resources=len(normalized.outputs))


def _log_letter(raw: RawRecord, letter: OutRecord, code: str, **more: str) -> None:
    """``event_key`` is the gateway's: by it an event is followed from its webhook to its dead letter."""
    event = header(letter.headers, EVENT_KEY)
    log.warning("dead letter", vendor=raw.vendor, raw=raw.coordinates, event_key=event, code=code, **more)


def _safe(error: BaseException) -> str:
    """Messages of our own errors name topics and codes; anybody else's may quote a payload."""
    return str(error) if type(error).__module__.startswith("streams.") else "see the type"
