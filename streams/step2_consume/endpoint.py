"""What can be seen of a worker while it runs: its metrics, and whether it is ready, at an endpoint of its own."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faust.exceptions import ConsumerNotStarted

from fhirline.config.settings import Settings
from fhirline.streams.observe.metrics.endpoint import Endpoint, bound
from fhirline.streams.observe.metrics.lookups import Lag, Lags, StateSize, StateSizes
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.step2_consume.metrics import WorkerMetrics
from fhirline.streams.step3_restore.state import StateCache


class WorkerEndpoint:
    """Made before the Faust app, which it then looks into; raises ConfigurationError where the port is taken."""

    def __init__(self, settings: Settings) -> None:
        self.registry = new_registry("worker")
        self.metrics = WorkerMetrics(self.registry)
        self._settings = settings
        self._app: Any = None
        self._states: Mapping[str, StateCache] = {}
        self._listener = bound(settings)

    def look_up(self, app: Any, states: Mapping[str, StateCache]) -> None:
        """``states``: raw topic → what is remembered of it."""
        self._app, self._states = app, states
        Lags(self.registry, self._settings.group, dict.fromkeys(states, self._settings.partitions), self.lags)
        StateSizes(self.registry, self.sizes)

    async def serve(self) -> None:
        """Serve until cancelled; returns at once where no port is set."""
        if self._listener is None:
            return
        endpoint = Endpoint(self._listener, self.registry, self.problems)
        await endpoint.start()
        try:
            await asyncio.Event().wait()
        finally:
            await endpoint.stop()

    def problems(self) -> Sequence[str]:
        """Why this worker does not map yet. One without partitions is ready: it stands by for another's."""
        if not any(state.generation for state in self._states.values()):
            return ["no partitions assigned yet"]
        return [f"{topic}: state is being restored" for topic, state in self._states.items() if state.unread()]

    def lags(self) -> Iterator[Lag]:
        """Of what is assigned now: the end offset of the last fetch minus what the group has committed.

        ``_committed_offset`` is Faust's own book of it; its monitor's knows nothing before the first commit.
        """
        consumer = self._app.consumer
        try:
            assigned = sorted(consumer.assignment())
        except ConsumerNotStarted:
            return
        for place in assigned:
            end = consumer.highwater(place)
            if place.topic in self._states and end is not None:  # None: nothing has been fetched of it so far
                committed = consumer._committed_offset.get(place) or 0
                yield Lag(place.topic, place.partition, max(0, end - committed))

    def sizes(self) -> Iterator[StateSize]:
        for state in self._states.values():
            for partition, (registers, size) in sorted(state.sizes().items()):
                yield StateSize(state.topic, partition, registers, size)
