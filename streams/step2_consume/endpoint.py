"""A worker's HTTP endpoint: its metrics, and whether it is ready."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faust.exceptions import ConsumerNotStarted

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import Lag
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.metrics.endpoint import Endpoint, bind_port
from fhirline.streams.observe.metrics.lookups import Lags, StateSize, StateSizes
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.step2_consume.metrics import WorkerMetrics
from fhirline.streams.step3_restore.topic_cache import TopicCache


class WorkerEndpoint:
    """Metrics and readiness of one worker. Made before the Faust app, whose figures it shows after `look_up`.

    Raises ConfigurationError where the port is taken.
    """

    def __init__(self, settings: Settings) -> None:
        self.registry = new_registry("worker")
        self.metrics = WorkerMetrics(self.registry)
        self._settings = settings
        self._app: Any = None
        self._states: Mapping[str, TopicCache[Any]] = {}
        self._listener = bind_port(settings)
        self.watch = KafkaWatch(settings)

    def look_up(self, app: Any, states: Mapping[str, TopicCache[Any]]) -> None:
        """Show this app's lag, and the size of these states (topic that is read → state)."""
        self._app, self._states = app, states
        Lags(self.registry, self._settings.group, dict.fromkeys(states, self._settings.partitions), self.lags)
        StateSizes(self.registry, self.sizes)

    async def serve(self) -> None:
        """Serve until cancelled. Returns at once where no port is set."""
        if self._listener is None:
            return
        endpoint = Endpoint(self._listener, self.registry, self.problems)
        await endpoint.start()
        try:
            await asyncio.Event().wait()
        finally:
            await endpoint.stop()

    def problems(self) -> Sequence[str]:
        """Return why this worker does not map now. A worker without partitions is ready: it is a standby."""
        if away := self.watch.problems():
            return away
        if not any(state.generation for state in self._states.values()):
            return ["no partitions assigned yet"]
        return [f"{topic}: state is being restored" for topic, state in self._states.items() if state.unread()]

    def lags(self) -> Iterator[Lag]:
        """Yield the lag of each assigned partition: its end at the last fetch minus the group's committed offset.

        ``_committed_offset`` is Faust's own record of that offset. Its monitor's is empty before the first commit.
        """
        consumer = self._app.consumer
        try:
            assigned = sorted(consumer.assignment())
        except ConsumerNotStarted:
            return
        for partition in assigned:
            end = consumer.highwater(partition)
            if partition.topic in self._states and end is not None:  # None: nothing has been fetched so far
                committed = consumer._committed_offset.get(partition) or 0
                yield Lag(partition.topic, partition.partition, max(0, end - committed))

    def sizes(self) -> Iterator[StateSize]:
        """Yield the size of each partition's state."""
        for state in self._states.values():
            for partition, (entries, size) in sorted(state.sizes().items()):
                yield StateSize(state.topic, partition, entries, size)
