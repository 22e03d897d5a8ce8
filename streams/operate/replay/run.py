"""A run and its folder: its plan, the index of the topics, and a journal per partition. A stopped run can be resumed.

A run that has published everything, or has found no difference, removes its folder unless it was asked to keep it.
"""

import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.settings import Settings
from fhirline.config.table_digests import tables_version
from fhirline.config.terminology import load_terminology
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of
from fhirline.streams.observe.interrupt import ctrl_c
from fhirline.streams.operate.replay import bundles, folders, outcomes
from fhirline.streams.operate.replay.codes import known_systems
from fhirline.streams.operate.replay.compare import Comparison
from fhirline.streams.operate.replay.inputs import differences, inputs_of
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.offset_ranges import OffsetRange, offset_ranges
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.practitioners import Practitioners
from fhirline.streams.operate.replay.progress import ProgressReporter
from fhirline.streams.operate.replay.publish import Publisher
from fhirline.streams.operate.replay.remap import Job, begin, remap
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.replay.topic_index import TopicIndex
from fhirline.streams.step1_receive.raw_record import now
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic, declared

Result = TypeVar("Result")

POLL_SECONDS = 0.2
"""Seconds between two looks at Ctrl-C and at the progress of the mapping processes."""


class Interrupted(FhirlineError):
    """Ctrl-C was pressed. The batches that were being mapped are in the journals."""

    def __init__(self) -> None:
        super().__init__("interrupted")


class Failed(FhirlineError):
    """A mapping process ended unexpectedly. The message says what to do."""


class Run:
    """A replay. A context manager. ``lock``: see `folders.lock`. ``jobs``: number of processes."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        lock: int,
        plan: Plan,
        jobs: int,
        progress: ProgressReporter | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.plan = plan
        self._progress = progress or ProgressReporter()
        self._lock = lock
        self._normalize: Normalizer | None = None
        self._closing = ExitStack()
        self.index = TopicIndex(folder / "topics.sqlite", settings, plan.selection.vendors, plan.prefix)
        self.jobs = {
            offset_range.source: Job(offset_range, plan.selection, folder, everything=plan.everything)
            for offset_range in plan.ranges
        }
        context = get_context("spawn")  # librdkafka's threads do not survive a fork
        self._steps: Any = context.Queue()
        self._stop = context.Event()
        arguments = (settings, self.index.path, plan, self._steps, self._stop)
        self._pool = ProcessPoolExecutor(jobs, context, initializer=begin, initargs=arguments)

    @classmethod
    def new(
        cls,
        settings: Settings,
        selection: Selection,
        jobs: int,
        progress: ProgressReporter | None = None,
        *,
        prefix: str = "",
        everything: bool = False,
        keep: bool = False,
    ) -> "Run":
        """Find the selected events, and create the run's folder. Raises ConfigurationError and KafkaAccessError."""
        inputs = inputs_of(settings)
        if prefix:
            _create_shadow_topics(settings, prefix)
        with closing(ErasureListFeed(settings)) as erasures:
            erasures.refresh()
            erased = erasures.erasure_list.fingerprint
        ranges = offset_ranges(settings, selection)
        if selection.as_of:
            _require_first_records(ranges)
            _require_empty(settings, prefix)
        plan = Plan(folders.new_id(), now().text, selection, ranges, prefix, everything, inputs, erased, keep)
        folder, lock = folders.create(settings.replay_dir, plan)
        return cls(settings, folder, lock, plan, jobs, progress)

    @classmethod
    def resumed(cls, settings: Settings, id: str, jobs: int, progress: ProgressReporter | None = None) -> "Run":
        """Resume a run. Raises ConfigurationError where there is none, or where it began with other inputs."""
        folder = folders.existing(settings.replay_dir, "--resume", id)
        instead = f"start a new run, and discard this one: fhirline replay --discard {id}"
        try:
            plan = Plan.load(folder)
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigurationError(f"--resume: run {id} is damaged, or of another release: {instead}") from None
        if changed := differences(plan.inputs, inputs_of(settings)):
            raise ConfigurationError(
                f"--resume: since run {id} began, this has changed: {', '.join(changed)}: {instead}"
            )
        if (lock := folders.lock(folder)) is None:
            raise ConfigurationError(f"--resume: run {id} is in use by another process")
        return cls(settings, folder, lock, plan, jobs, progress)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._closing.close()
        self.index.close()
        os.close(self._lock)

    def map(self) -> None:
        """Index the topics, then map every range. Raises Interrupted, Failed and KafkaAccessError."""
        self._progress.ranges(self.plan.ranges)
        try:
            self.index.read_on(self._progress.indexed)
        except KeyboardInterrupt:
            raise Interrupted from None
        self._work(remap, [job for job in self.jobs.values() if job.offset_range.length])

    def publisher(self, journals: dict[str, Journal], tombstones: bool) -> Publisher:
        """Return a publisher. It is closed with the run."""
        made = Publisher(
            self.settings,
            self.index,
            self.jobs,
            journals,
            self._practitioners(journals),
            self._map_live,
            self.plan.erased,
            self.plan.prefix,
            self.plan.everything,
            tombstones,
        )
        self._closing.callback(made.close)
        return made

    def comparison(self, journals: dict[str, Journal]) -> Comparison:
        practitioners = self._practitioners(journals)
        practitioners.fold()
        systems = known_systems(self.settings)
        return Comparison(self.settings, self.index, journals, practitioners, self.plan.prefix, systems)

    def _practitioners(self, journals: dict[str, Journal]) -> Practitioners:
        """Return the run's Practitioners. They are closed with the run."""
        if self._normalize is None:
            self._normalize = build_normalizer(self.settings)
        made = Practitioners(
            self.settings,
            self._normalize,
            self.index,
            self.jobs,
            journals,
            self.folder,
            everything=self.plan.everything,
        )
        self._closing.callback(made.close)
        return made

    @contextmanager
    def journals(self) -> Iterator[dict[str, Journal]]:
        opened = {source: Journal(job.journal) for source, job in self.jobs.items()}
        try:
            yield opened
        finally:
            for journal in opened.values():
                journal.close()

    def _map_live(self) -> None:
        """Map the live events after the ranges, from where the last time ended."""
        starts: dict[TopicPartition, int] = {}
        for job in self.jobs.values():
            with Journal(job.journal) as journal:
                starts[job.offset_range.topic_partition] = max(journal.next or 0, job.offset_range.live_from)
        with Scanner(self.settings) as scanner:
            ends = {partition: offset + 1 for partition, offset in starts.items()}
            found = {partition_of(message) for message in scanner.stored(starts, ends)}
        live = [job for job in self.jobs.values() if job.offset_range.topic_partition in found]
        self._work(remap, [replace(job, live=True) for job in live])

    def bundles(self) -> int:
        """Send the Bundles of the range's events. Return how many are larger than Kafka takes.

        Raises Interrupted, Failed and PublishFailed.
        """
        return sum(self._work(bundles.send, self.jobs.values()))

    def outcomes(self) -> int:
        """Send the OperationOutcomes of the range's events. Return how many are larger than Kafka takes.

        Raises as `bundles` does.
        """
        before = outcomes.ends(self.settings)
        sent = self._work(outcomes.send, self.jobs.values())
        ranges = [job.offset_range for job in self.jobs.values()]
        with self.journals() as journals:
            failed = frozenset[str]().union(*(journal.failed_events() for journal in journals.values()))
        return sum(sent) + outcomes.settle(self.settings, ranges, before, failed)

    @property
    def tables_version(self) -> str:
        """Return the version of the tables that the run maps with: the header ``tables-version`` of its records."""
        return tables_version(load_terminology(self.settings.terminology_dir))

    def discard(self) -> None:
        """Remove the run's folder, also where it was to be kept."""
        folders.remove(self.folder)

    def finish(self) -> None:
        """Remove the run's folder, unless it is to be kept."""
        if not self.plan.keep:
            self.discard()

    def _work(self, task: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
        """Run a task for each job in the mapping processes. Returns the results in no particular order."""
        results: list[Result] = []
        with ctrl_c() as pressed:
            try:
                waiting: set[Future[Result]] = {self._pool.submit(task, job) for job in jobs}
                while waiting:
                    done, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                    self._report()
                    results.extend(future.result() for future in done)
                    if pressed.is_set():
                        self._stop.set()  # each process finishes its batch
            except BrokenProcessPool:
                raise Failed("a mapping process was killed, perhaps for want of memory: try fewer --jobs") from None
        self._report()
        if pressed.is_set():
            raise Interrupted
        return results

    def _report(self) -> None:
        while True:
            try:
                self._progress.mapped(self._steps.get_nowait())
            except queue.Empty:
                return


def _create_shadow_topics(settings: Settings, prefix: str) -> None:
    """Create the shadow topics where they are missing, as the canonical topics are declared."""
    canonical = {canonical_topic(name) for name in RESOURCE_TYPES}
    topics = [replace(topic, name=prefix + topic.name) for topic in declared(settings) if topic.name in canonical]
    with Cluster(kafka_python(settings)) as cluster:
        applied = cluster.apply(cluster.plan(topics))
    if not applied.complete:
        first = next(iter([*(difference for difference, _ in applied.failed), *applied.refused])).topic.name
        raise ConfigurationError(f"--to-prefix: topic {first} could not be created, or differs from the declared one")


def _require_first_records(ranges: Iterable[OffsetRange]) -> None:
    """Raise ConfigurationError where a raw partition has lost its beginning, which state as of a time follows from."""
    cut = next((found for found in ranges if not found.complete), None)
    if cut is not None:
        raise ConfigurationError(
            f"--as-of: {cut.source} no longer has its first records: what they contributed cannot be made again"
        )


def _require_empty(settings: Settings, prefix: str) -> None:
    """Raise ConfigurationError where a shadow topic has a record, which may be of a later time."""
    with Scanner(settings) as scanner:
        topics = [prefix + canonical_topic(name) for name in RESOURCE_TYPES]
        found = next(iter(scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))), None)
    if found is not None:
        raise ConfigurationError(f"--to-prefix: topic {found.topic()} has records already: choose another prefix")
