"""The delivery stage: Bundles in, a FHIR server that has their resources, or dead letters (fhir-delivery.md §1).

The invariant: **an offset is committed only after the Bundle's outcome is durable**, and that of every Bundle before it
in its partition. An outcome is durable when the server has answered 2xx for each entry that was sent and Kafka has
acknowledged what the state notes of it; or when Kafka has acknowledged that the Bundle waits, with its dead letter if
it was refused; or when the erasure list, which is durable, forbids to send it. A Bundle that waits is in the state
until the server has what it holds: nothing else ends its waiting.

A process that ends reads unfinished Bundles again after its restart, and sends again at most what was in flight.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

import structlog
from confluent_kafka import Message

from fhirline.config.errors import KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.streams.deliver.bundle_topic import bundle_topic, require_same_topic
from fhirline.streams.deliver.entries import UnreadableBundle, entries_of, lanes_of, patients_of
from fhirline.streams.deliver.lanes import Lanes
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.deliver.outcome import Outcomes
from fhirline.streams.deliver.purge import Purge
from fhirline.streams.deliver.sending import Delivery, DeliveryAbandoned
from fhirline.streams.deliver.shared import SharedLane
from fhirline.streams.deliver.state import DeliveredPartition
from fhirline.streams.deliver.state_feed import StateFeed, apply_orders
from fhirline.streams.deliver.work import Resumption, Work
from fhirline.streams.kafka.group_reader import Assignment, Reader
from fhirline.streams.kafka.records import Lag, TopicPartition, from_confluent
from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable, RawProducer
from fhirline.streams.step3_restore.client_id import client_id
from fhirline.streams.step3_restore.erasure_list import hashing
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import BUNDLE

log = structlog.get_logger("deliver")

COMMIT_SECONDS = 0.5
ORDERS_SECONDS = 2.0
"""Interval between two looks for operators' orders."""
GRACE_SECONDS = 10.0
"""Time that requests in flight have when the process ends, or a partition goes to another process."""


class Stage:
    """The Bundles in progress. ``producer`` awaits each record's acknowledgement."""

    def __init__(
        self,
        settings: Settings,
        delivery: Delivery,
        purge: Purge,
        erasures: ErasureListFeed,
        producer: RawProducer,
        metrics: DeliverMetrics,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._shared = SharedLane(settings, delivery, producer)
        self._erasures = erasures
        self._erasures.refresh()  # raises where patients were erased under another key
        self._outcomes = Outcomes(settings, delivery, self._shared, purge, self._erasures, producer, metrics)
        self._lanes: Lanes[Work | Resumption] = Lanes()
        self._states: dict[TopicPartition, DeliveredPartition] = {}
        self._assignments: dict[TopicPartition, Assignment] = {}
        self._feed = StateFeed(settings)
        self._reading_state = asyncio.Lock()
        self._tasks: dict[asyncio.Task[None], Work | Resumption] = {}
        self._resuming: set[tuple[int, str]] = set()
        self._bytes = 0
        self._failure: BaseException | None = None
        self._reader = Reader(
            settings,
            "deliver",
            BUNDLE,
            deliver_group(settings),
            client_id("deliver", hashing(settings)),
            self._revoked,
            self._drain,
        )
        metrics.in_hand.set_function(lambda: len(self._lanes))
        metrics.parked.set_function(self._parked)

    def lags(self) -> list[Lag]:
        """Return the lag of each assigned partition."""
        return self._reader.lags()

    def problems(self) -> list[str]:
        """Return the reasons why nothing is delivered yet."""
        return [] if self._reader.joined else ["no partitions assigned yet"]

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until ``stopping`` is set. Raises KafkaUnavailable, or ConfigurationError where the server refuses us."""
        beside: list[asyncio.Task[None]] = []
        try:
            await self._shared.start()
            following = (self._shared.follow(), self._follow_orders(), self._erasures.keep_fresh())
            beside = [asyncio.create_task(task) for task in following]
            for task in beside:
                task.add_done_callback(self._beside_ended)
            await self._work(stopping)
            if self._tasks and self._failure is None:
                await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
        finally:
            abandoned = [item for item in (*self._tasks, *beside) if item.cancel()]
            await asyncio.gather(*abandoned, return_exceptions=True)
            await self._reader.close()
            self._feed.close()
            self._shared.close()
            self._erasures.close()
        if isinstance(self._failure, KafkaAccessError):
            raise KafkaUnavailable(str(self._failure)) from None
        if self._failure is not None:
            raise self._failure

    async def _work(self, stopping: asyncio.Event) -> None:
        committed = time.monotonic()
        while not stopping.is_set() and self._failure is None:
            room = max(0, self._settings.deliver_bundles - len(self._lanes))
            for assignment, message in await self._reader.read(
                room if self._bytes < self._settings.deliver_bytes else 0
            ):
                await self._begin(assignment, message)
            if time.monotonic() - committed >= COMMIT_SECONDS:
                self._reader.commit()
                committed = time.monotonic()
        stopping.set()

    async def _begin(self, assignment: Assignment, message: Message) -> None:
        await self._restore(assignment)
        if assignment.revoked:
            return
        bundle = from_confluent(message)
        state = self._states[DeliveredPartition(assignment.partition).topic_partition]
        assignment.begin(bundle.offset)
        try:
            entries = entries_of(bundle.value)
        except UnreadableBundle:
            entries = []
        work = Work(assignment, state, bundle, entries, patients_of(entries))
        self._bytes += work.size
        if self._lanes.add(work, lanes_of(entries)):
            self._start(work)

    async def _restore(self, assignment: Assignment) -> None:
        """Read the state of a partition, once for each assignment. Raises as `require_same_topic`."""
        place = TopicPartition(assignment.topic, assignment.partition)
        async with self._reading_state:
            if assignment is self._assignments.get(place) or assignment.revoked:
                return
            state = DeliveredPartition(assignment.partition)
            await asyncio.to_thread(self._feed.restore, state)
            if not assignment.revoked:
                id = await asyncio.to_thread(bundle_topic, self._settings)
                await require_same_topic(state, id, self._outcomes.write)
            if not assignment.revoked:
                self._states[state.topic_partition], self._assignments[place] = state, assignment

    def _start(self, work: Work | Resumption) -> None:
        task = asyncio.create_task(self._outcomes.settle(work))
        self._tasks[task] = work
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        work = self._tasks.pop(task)
        if isinstance(work, Work):
            self._bytes -= work.size
        else:
            self._resuming.discard((work.state.partition, work.patient))
        error = None if task.cancelled() else task.exception()
        if isinstance(work, Work) and error is None and not task.cancelled():
            work.assignment.finish(work.bundle.offset)
        if error is not None and not isinstance(error, DeliveryAbandoned):
            self._failure = self._failure or error
        for following in self._lanes.done(work):
            self._start(following)

    def _beside_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _follow_orders(self) -> None:
        """Begin what operators have ordered to be resumed, also in partitions of which no Bundle comes."""
        while True:
            await asyncio.sleep(ORDERS_SECONDS)
            for assignment in self._reader.assignments:
                await self._restore(assignment)
            async with self._reading_state:
                positions = {place: state.position for place, state in self._states.items()}
                read = await asyncio.to_thread(self._feed.read, positions) if positions else []
            apply_orders(self._states, read)
            for state in list(self._states.values()):
                for patient in list(state.resuming):
                    self._resume(state, patient)

    def _resume(self, state: DeliveredPartition, patient: str) -> None:
        if (state.partition, patient) in self._resuming:
            return
        assignment = self._assignments[TopicPartition(BUNDLE, state.partition)]
        if assignment.revoked:
            return
        self._resuming.add((state.partition, patient))
        work = Resumption(assignment, state, patient)
        waiting = state.waiting_with(patient)
        lanes = {patient, *(item for found in waiting for item in found.patients)}
        if self._lanes.add(work, lanes):
            self._start(work)

    def _parked(self) -> float:
        states = list(self._states.values())
        return len({patient for state in states for item in list(state.waiting.values()) for patient in item.patients})

    def _drain(self, ended: Iterable[Assignment]) -> None:
        """Wait, in the consumer's thread, until nothing of these partitions is in flight, before they go elsewhere."""
        lost = set(ended)
        for assignment in lost:
            assignment.revoked = True
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(work.assignment in lost for work in [*self._tasks.values()]):
            time.sleep(0.02)

    def _revoked(self, ended: Iterable[Assignment]) -> None:
        """Abandon what is still in flight of partitions that another process has now, and forget their state."""
        lost = set(ended)
        for task, work in list(self._tasks.items()):
            if work.assignment in lost:
                task.cancel()
        for assignment in lost:
            place = TopicPartition(assignment.topic, assignment.partition)
            if self._assignments.get(place) is assignment:
                del self._assignments[place]
                with suppress(KeyError):
                    del self._states[DeliveredPartition(assignment.partition).topic_partition]


def deliver_group(settings: Settings) -> str:
    """Return the name of the delivery's consumer group."""
    return f"{settings.group}.deliver"
