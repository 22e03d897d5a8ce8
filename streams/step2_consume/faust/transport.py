"""Faust's aiokafka driver, with its own fetch wait, commits, and a way back to lost records (faust.md §3)."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import structlog
from aiokafka.errors import IllegalStateError
from confluent_kafka import KafkaException
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step2_consume.faust.offset_gaps import PositionsUnknown
from fhirline.streams.step2_consume.faust.offsets import Fetched, Positions

log = structlog.get_logger("worker")

FETCH_WAIT_MS = 20
"""How long a fetch waits for `FETCH_MIN_BYTES`. Faust fixes it at 1.5 s.

A fetch asks a broker for all partitions that have nothing buffered. One that gets drained while such a fetch is out has
to wait for it, and on quiet partitions that is until the wait is over: events then lie for up to 1.5 s although the
worker is idle.
"""

FETCH_MIN_BYTES = 65_536
"""What a fetch waits for. With Faust's 1, each event would have a fetch of all partitions to itself: some 2 ms of a
core, where mapping it takes 4 to 5 (benchmarks/NOTES.md)."""


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Both are read when it starts; the driver has no settings for them.
        consumer._fetch_max_wait_ms, consumer._fetch_min_bytes = FETCH_WAIT_MS, FETCH_MIN_BYTES
        return consumer

    async def fetched(self) -> dict[TopicPartition, Fetched]:
        """Where each assigned partition is that has been fetched from. Raises ConsumerNotStarted."""
        return cast(dict[TopicPartition, Fetched], await self.call_thread(self._fetched))

    async def _fetched(self) -> dict[TopicPartition, Fetched]:
        if (subscription := self._ensure_consumer()._subscription.subscription) is None:
            return {}
        states = {each: subscription.assignment.state_value(each) for each in subscription.assignment.tps}
        return {
            TopicPartition(*each): Fetched(state.position, state.highwater)
            for each, state in states.items()
            if state.has_valid_position and state.highwater is not None
        }


class WorkerConsumer(Consumer):
    """Commits what `Positions` says. Of Faust's own acks it only needs to know that there are none in hand."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _positions(self) -> Positions:
        return cast(WorkerTransport, self.transport).positions

    async def read_on(self) -> None:
        """Go back to where records came to no agent, and none behind them either. To be called now and then.

        Raises LogEndsBefore.
        """
        if not self.flow_active:  # partitions are about to come or go
            return
        try:
            standing = await self._positions.standing(await cast(_ConsumerThread, self._thread).fetched())
            if standing:
                shown = sorted(f"{topic}/{partition}/{offset}" for (topic, partition), offset in standing.items())
                log.warning("reading on where nothing came", raw=shown)
                await self.seek_wait({TP(*place): offset for place, offset in standing.items()})
        except (ConsumerNotStarted, IllegalStateError):
            return  # not yet, or not any more
        except (ConfigurationError, KafkaAccessError, KafkaException, PositionsUnknown, TimeoutError) as error:
            log.warning("partitions could not be looked at", error=type(error).__name__, detail=str(error))

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        """Partitions of which something is to be committed, also where Faust has forgotten that it was acked."""
        places = (TP(*place) for place in self._positions.to_commit())
        return (each for each in places if topics is None or each in topics or each.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._positions.committable(TopicPartition(*tp))

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Always: `Positions` names nothing that is committed already."""
        return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done: bool = await super()._commit(offsets)
        if done:
            self._positions.committed(
                {TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
            )
        return done

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Not kept, for nothing asks for it: what lies in a gap is looked into by `Positions.complete`."""


class WorkerTransport(Transport):
    """To be an app's ``transport``."""

    Consumer = WorkerConsumer

    def __init__(self, url: Any, app: Any, positions: Positions) -> None:
        super().__init__(url, app)
        self.positions = positions
