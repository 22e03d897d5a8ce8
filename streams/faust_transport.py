"""Faust's aiokafka driver, but for two things: how long a fetch waits, and who says what is committed."""

from typing import Any, cast

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from streams.positions import Positions

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


class _Consumer(Consumer):
    """Commits what `Positions` says. Of Faust's own acks it only needs to know that there are some."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        positions = cast(WorkerTransport, self.transport).positions
        return positions.committable(tp.topic, tp.partition)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """What lies in a gap is looked into before the event behind it is mapped (`Positions.complete`)."""


class WorkerTransport(Transport):
    """To be an app's ``transport``."""

    Consumer = _Consumer

    def __init__(self, url: Any, app: Any, positions: Positions) -> None:
        super().__init__(url, app)
        self.positions = positions
