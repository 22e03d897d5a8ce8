"""Faust's aiokafka driver with a short wait of its fetches, which it fixes at 1.5 s.

A fetch asks a broker for all partitions that have nothing buffered. One that gets drained while such a fetch is out has
to wait for it, and on quiet partitions that is until the wait is over: events then lie for up to 1.5 s although the
worker is idle.
"""

from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

FETCH_WAIT_MS = 50
"""Twenty empty fetches a second from an idle worker: a hundredth of a core."""


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # read when it starts; the driver has no setting for it
        return consumer


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class PromptTransport(Transport):
    """To be an app's ``transport``."""

    Consumer = _Consumer
