"""A run and its folder: what was asked for, the index, a journal a partition. Stopped, it goes on where it was.

The folder holds changed resources, so patient data: it is its owner's only (mode 0700), and a run that has published
leaves none.
"""

import fcntl
import os
import queue
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of
from fhirline.streams.observe.interrupt import ctrl_c
from fhirline.streams.operate.replay.bundles import send
from fhirline.streams.operate.replay.compare import Comparison
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.offset_ranges import Span, spans
from fhirline.streams.operate.replay.publish import Publisher
from fhirline.streams.operate.replay.remap import Job, Step, begin, remap
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.replay.topic_index import HeldIndex
from fhirline.streams.step3_restore.erased import ErasureListFeed
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic, declared

Result = TypeVar("Result")

LOOK_SECONDS = 0.2


class Interrupted(FhirlineError):
    """Ctrl-C; the batches in hand are in the journals."""


class Failed(FhirlineError):
    """A mapping process ended by itself; the message says what is to be done."""


class Told(Protocol):
    """Who is told of a run's progress."""

    def held(self, records: int) -> None: ...

    def step(self, step: Step) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run was begun for; ``run.json`` in its folder."""

    id: str
    selection: Selection
    spans: tuple[Span, ...]
    prefix: str
    everything: bool
    mapping: str
    erased: str
    """Fingerprint of the erased (`streams.step3_restore.erased`): a journal holds what was mapped when those were."""

    def save(self, folder: Path) -> None:
        told = {**asdict(self), "spans": [asdict(each) for each in self.spans]}
        (folder / "run.json").write_bytes(orjson.dumps(told))

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        told: dict[str, Any] = orjson.loads((folder / "run.json").read_bytes())
        told["selection"] = Selection.of_json(told["selection"])
        told["spans"] = tuple(
            Span(**{**each, "offsets": None if each["offsets"] is None else tuple(each["offsets"])})
            for each in told["spans"]
        )
        return cls(**told)


def mapping_of(settings: Settings) -> str:
    """What two parts of one run must have in common: versions, and where ids come from."""
    return f"{MAPPING_VERSION} {MAP_SET_VERSION} {settings.base} {settings.partitions}"


class Run:
    """A replay under way; a context manager. ``jobs``: processes at once."""

    def __init__(self, settings: Settings, folder: Path, plan: Plan, jobs: int, told: Told) -> None:
        self.settings = settings
        self.folder = folder
        self.plan = plan
        self._told = told
        self._lock = _locked(folder)
        self.index = HeldIndex(folder / "held.sqlite", settings, plan.selection.vendors, plan.prefix)
        self.jobs = {each.source: Job(each, plan.selection, folder, everything=plan.everything) for each in plan.spans}
        context = get_context("spawn")  # librdkafka's threads do not survive a fork
        self._steps: Any = context.Queue()
        self._stop = context.Event()
        told_to_each = (settings, self.index.path, plan.selection.vendors, plan.prefix, self._steps, self._stop)
        self._pool = ProcessPoolExecutor(jobs, context, initializer=begin, initargs=told_to_each)

    @classmethod
    def new(
        cls,
        settings: Settings,
        selection: Selection,
        jobs: int,
        told: Told,
        *,
        prefix: str = "",
        everything: bool = False,
    ) -> "Run":
        """Find where the events lie, and make the run's folder. Raises ConfigurationError."""
        if prefix:
            _make_shadows(settings, prefix)
        erasures = ErasureListFeed(settings)
        erasures.refresh()
        found = spans(settings, selection)
        id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
        folder = settings.replay_dir / id
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise ConfigurationError(f"FHIRLINE_REPLAY_DIR: {folder}: {error.strerror}") from None
        plan = Plan(id, selection, found, prefix, everything, mapping_of(settings), erasures.erasure_list.fingerprint)
        erasures.close()
        plan.save(folder)
        return cls(settings, folder, plan, jobs, told)

    @classmethod
    def resumed(cls, settings: Settings, id: str, jobs: int, told: Told) -> "Run":
        """Raises ConfigurationError where there is no such run, or another mapping began it."""
        folder = settings.replay_dir / id
        try:
            plan = Plan.load(folder)
        except (OSError, ValueError, KeyError, TypeError):
            known = sorted(each.parent.name for each in settings.replay_dir.glob("*/run.json"))
            raise ConfigurationError(
                f"--resume: no run {id!r} in {settings.replay_dir}; there: {', '.join(known) or 'none'}"
            ) from None
        if plan.mapping != mapping_of(settings):
            raise ConfigurationError(
                f"--resume: run {id} was begun with another mapping ({plan.mapping}; now {mapping_of(settings)}): "
                "begin a new one"
            )
        return cls(settings, folder, plan, jobs, told)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.index.close()
        os.close(self._lock)

    def map(self) -> None:
        """Read what the topics hold, then map every span. Raises Interrupted, Failed, ConfigurationError."""
        try:
            self.index.read_on(self._told.held)
        except KeyboardInterrupt:
            raise Interrupted from None
        self._work(remap, [each for each in self.jobs.values() if each.span.start < each.span.end])

    def publisher(self, journals: dict[str, Journal], tombstones: bool) -> Publisher:
        return Publisher(
            self.settings,
            self.index,
            self.jobs,
            journals,
            self._map_on,
            self.plan.erased,
            self.plan.prefix,
            self.plan.everything,
            tombstones,
        )

    def comparison(self, journals: dict[str, Journal]) -> Comparison:
        return Comparison(self.settings, self.index, journals, self.plan.prefix)

    @contextmanager
    def journals(self) -> Iterator[dict[str, Journal]]:
        opened = {source: Journal(job.journal) for source, job in self.jobs.items()}
        try:
            yield opened
        finally:
            for each in opened.values():
                each.close()

    def _map_on(self) -> None:
        """Map what has come in behind the spans, and behind that of the last time, where there is anything."""
        places: dict[TopicPartition, tuple[int, Job]] = {}
        for job in self.jobs.values():
            with Journal(job.journal) as journal:
                places[job.span.place] = (max(journal.next or 0, job.span.live_from), job)
        with Scanner(self.settings) as scanner:
            upto = {place: next + 1 for place, (next, _) in places.items()}
            found = {
                partition_of(each) for each in scanner.read({place: next for place, (next, _) in places.items()}, upto)
            }
        self._work(remap, [replace(job, live=True) for place, (_, job) in places.items() if place in found])

    def bundles(self) -> int:
        """Send the Bundles of the range's events. Raises Interrupted, Failed, PublishFailed.

        Returns how many were larger than Kafka takes.
        """
        return sum(self._work(send, self.jobs.values()))

    def remove(self) -> None:
        """The folder, when nothing of it is wanted any more."""
        shutil.rmtree(self.folder)

    def _work(self, task: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
        """What the task has made of each job, in no order."""
        made: list[Result] = []
        with ctrl_c() as pressed:
            try:
                waiting: set[Future[Result]] = {self._pool.submit(task, each) for each in jobs}
                while waiting:
                    done, waiting = wait(waiting, LOOK_SECONDS, FIRST_EXCEPTION)
                    self._tell()
                    made.extend(each.result() for each in done)
                    if pressed.is_set():
                        self._stop.set()  # the batches in hand are the last ones
            except BrokenProcessPool:
                raise Failed("a mapping process was killed (out of memory?): fewer --jobs need less of it") from None
        self._tell()
        if pressed.is_set():
            raise Interrupted
        return made

    def _tell(self) -> None:
        tell: Callable[[Step], None] = self._told.step
        while True:
            try:
                tell(self._steps.get_nowait())
            except queue.Empty:
                return


def _locked(folder: Path) -> int:
    """One process a run: two would map into the same journals."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConfigurationError(f"--resume: run {folder.name} is under way in another process") from None
    return lock


def _make_shadows(settings: Settings, prefix: str) -> None:
    """The shadow topics, as the canonical ones are declared."""
    canonical = {canonical_topic(each) for each in RESOURCE_TYPES}
    topics = [replace(each, name=prefix + each.name) for each in declared(settings) if each.name in canonical]
    with Cluster(kafka_python(settings)) as cluster:
        applied = cluster.apply(cluster.plan(topics))
    if not applied.complete:
        first = next(iter([*(each for each, _ in applied.failed), *applied.refused])).topic.name
        raise ConfigurationError(f"--to-prefix: topic {first} could not be made, or is another than the declared one")
