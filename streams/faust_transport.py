"""Faust's aiokafka driver, but for how long a fetch waits, what is committed, and where it goes back to."""

from contextlib import suppress
from typing import Any, cast

import structlog
from aiokafka.errors import IllegalStateError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from streams.positions import Positions, PositionsUnknown
from streams.scan import Place

log = structlog.get_logger("worker")

FETCH_WAIT_MS = 50
"""Twenty empty fetches a second from an idle worker: a hundredth of a core. Faust fixes it at 1.5 s.

A fetch asks a broker for all partitions that have nothing buffered. One that gets drained while such a fetch is out has
to wait for it, and on quiet partitions that is until the wait is over: events then lie for up to 1.5 s although the
worker is idle.
"""


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # read when it starts; the driver has no setting for it
        return consumer

    async def ends(self) -> dict[Place, int]:
        """End offsets of the assigned partitions, as far as fetches have told them. Raises ConsumerNotStarted."""
        return cast(dict[Place, int], await self.call_thread(self._ends))

    async def _ends(self) -> dict[Place, int]:
        consumer = self._ensure_consumer()
        return {(each.topic, each.partition): consumer.highwater(each) or 0 for each in consumer.assignment()}


class WorkerConsumer(Consumer):
    """Commits what `Positions` says. Of Faust's own acks it only needs to know that there are some."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _positions(self) -> Positions:
        return cast(WorkerTransport, self.transport).positions

    async def read_on(self) -> None:
        """Go back to where records came to no agent, and none behind them either. To be called now and then."""
        thread = cast(_ConsumerThread, self._thread)
        with suppress(ConsumerNotStarted, IllegalStateError, TimeoutError, PositionsUnknown):  # then the next time
            if not self.flow_active:  # partitions are about to come or go
                return
            if standing := await self._positions.standing(await thread.ends()):
                shown = sorted(f"{topic}/{partition}/{offset}" for (topic, partition), offset in standing.items())
                log.warning("reading on where nothing came", raw=shown)
                await self.seek_wait({TP(*place): offset for place, offset in standing.items()})

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._positions.committable(tp.topic, tp.partition)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """What lies in a gap is looked into before the event behind it is mapped (`Positions.complete`)."""


class WorkerTransport(Transport):
    """To be an app's ``transport``."""

    Consumer = WorkerConsumer

    def __init__(self, url: Any, app: Any, positions: Positions) -> None:
        super().__init__(url, app)
        self.positions = positions
