"""Faust's aiokafka driver, changed in four points: what a fetch waits for, how much is fetched ahead of the mapping,
what is committed, stalled partitions.

README.md beside this file has the reason for each override (faust.md §3). `hooks` lists what they need of Faust.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import KafkaException
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.streams.kafka.records import RecordPosition, TopicPartition
from fhirline.streams.step2_consume.faust.batching import MOST_BYTES, event_bytes
from fhirline.streams.step2_consume.faust.offset_gaps import Committed, PositionsUnknown
from fhirline.streams.step2_consume.faust.offsets import Fetched, Positions

log = structlog.get_logger("worker")

FETCH_WAIT_MS = 20
"""Longest wait of a fetch for `FETCH_MIN_BYTES`. Faust fixes it at 1.5 s.

A fetch asks a broker for all partitions that have nothing buffered. A partition that is drained while such a fetch is
out must wait for it. On quiet topics events would wait for up to 1.5 s although the worker is idle.
"""

FETCH_MIN_BYTES = 65_536
"""Bytes that a fetch waits for.

With Faust's 1 byte each event would have a fetch of all partitions to itself: some 2 ms of a core, where mapping it
takes 4 to 5 ms (benchmarks/NOTES.md).
"""

HELD_BACK_SECONDS = 0.1
"""Longest wait for records of other topics while those of one are held back."""


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # The consumer reads both when it starts. The driver has no settings for them.
        consumer._fetch_max_wait_ms, consumer._fetch_min_bytes = FETCH_WAIT_MS, FETCH_MIN_BYTES
        return consumer

    async def fetched(self) -> dict[TopicPartition, Fetched]:
        """Return how far each assigned partition has been fetched. Raises ConsumerNotStarted."""
        return cast(dict[TopicPartition, Fetched], await self.call_thread(self._fetched))

    async def commit_marked(self, marked: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets with their metadata. Partitions that this process no longer owns are passed over."""
        await self.call_thread(self._commit_marked, marked)

    async def _commit_marked(self, marked: Mapping[TopicPartition, Committed]) -> None:
        consumer = self._ensure_consumer()
        owned = {tp: marked[place] for tp in consumer.assignment() if (place := TopicPartition(*tp)) in marked}
        try:
            await consumer.commit({tp: OffsetAndMetadata(*committed) for tp, committed in owned.items()})
        except (CommitFailedError, IllegalStateError):
            log.info("partitions were revoked before their events were marked as begun")

    async def _fetched(self) -> dict[TopicPartition, Fetched]:
        if (subscription := self._ensure_consumer()._subscription.subscription) is None:
            return {}
        assignment = subscription.assignment
        states = {TopicPartition(*tp): assignment.state_value(tp) for tp in assignment.tps}
        return {
            partition: Fetched(state.position, state.highwater)
            for partition, state in states.items()
            if state.has_valid_position and state.highwater is not None
        }


class WorkerConsumer(Consumer):
    """Commits what `Positions` allows. Faust's own acknowledgements only tell it that no event is being processed."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _positions(self) -> Positions:
        return cast(WorkerTransport, self.transport).positions

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's
        """Fetch as Faust does, but nothing of a topic of which `MOST_BYTES` wait for its agent.

        Faust bounds the number of events that wait, not their size.
        """
        full = cast(WorkerTransport, self.transport).full_topics()
        if not full or active_partitions is None:
            return await super()._getmany(active_partitions, timeout)
        wait = min(timeout, HELD_BACK_SECONDS)
        if wanted := {tp for tp in active_partitions if tp.topic not in full}:
            return await super()._getmany(wanted, wait)
        await self.sleep(wait)
        return {}

    async def resume_stalled(self) -> None:
        """Seek back where records were fetched that reached no agent. To be called periodically.

        Raises LogTruncated.
        """
        if not self.flow_active:  # a rebalance is under way
            return
        try:
            stalled = await self._positions.stalled(await cast(_ConsumerThread, self._thread).fetched())
            if stalled:
                shown = sorted(str(RecordPosition(*partition, offset)) for partition, offset in stalled.items())
                log.warning("reading on where nothing came", raw=shown)
                await self.seek_wait({TP(*partition): offset for partition, offset in stalled.items()})
        except (ConsumerNotStarted, IllegalStateError):
            return  # the consumer has not started, or the partitions were revoked
        except (ConfigurationError, KafkaAccessError, KafkaException, PositionsUnknown, TimeoutError) as error:
            log.warning("partitions could not be looked at", error=type(error).__name__, detail=str(error))

    async def commit_marked(self, marked: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets with the marks of `streams.step2_consume.unfinished`.

        They are counted as committed before they are sent: Faust would commit them as well, and remove the mark. A
        repeated event is not marked, since the mark would move the committed offset back.
        """
        marked = {place: mark for place, mark in marked.items() if self._positions.markable(place, mark.offset)}
        if not marked:
            return
        self._positions.mark_committed({partition: committed.offset for partition, committed in marked.items()})
        await cast(_ConsumerThread, self._thread).commit_marked(marked)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        """Yield the partitions that have an offset to commit, also those whose acknowledgements Faust has dropped."""
        tps = (TP(*partition) for partition in self._positions.partitions_to_commit())
        return (tp for tp in tps if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        """Return the offset to commit. Faust's acknowledgements are dropped: they would only be collected."""
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._positions.committable(TopicPartition(*tp))

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Return True: `Positions` names no offset that is committed already."""
        return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, and record which offsets Kafka accepted."""
        done: bool = await super()._commit(offsets)
        if done:
            self._positions.mark_committed({TopicPartition(*tp): offset for tp, offset in offsets.items()})
        return done

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: `Positions.fill_gaps` reads what lies in a gap, and `_new_offset` does not use Faust's gaps."""


class WorkerTransport(Transport):
    """The transport of a worker's Faust app."""

    Consumer = WorkerConsumer

    def __init__(self, url: Any, app: Any, positions: Positions) -> None:
        super().__init__(url, app)
        self.positions = positions
        self.streams: dict[str, Any] = {}
        """The stream of each topic's agent."""

    def full_topics(self) -> set[str]:
        """Return the topics of which `MOST_BYTES` or more wait for their agent."""
        return {topic for topic, stream in self.streams.items() if _waiting_bytes(stream) >= MOST_BYTES}


def _waiting_bytes(stream: Any) -> int:
    """Return the size of the events that have been fetched and that an agent has not taken yet.

    They are counted each time, since Faust drops some of them in a rebalance.
    """
    return sum(map(event_bytes, stream.channel.queue._queue))
