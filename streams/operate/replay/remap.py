"""Mapping a raw partition anew, in its order, into its journal. Runs in a process of its own, one partition a task.

What folds remember at the start (the base) is the state topic's registers, so that a range knows what all other events
have said; its own events' statements are merged on top. Of equal versions the later one wins: so what an event says
today replaces what the old mapping had it say, and a register that a *later* event won stays that event's. Where the
range is everything, the base is nothing, so that registers show that no event fills any more.

For a last-writer resource the base holds the greatest version ever written, so a range makes it only where its writer
lies in the range. Folded resources (Patient, Altibbi's children, Azodha's appointments) are built of all registers, and
the last one that a range makes is built when all of its events have been mapped anew.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.operate.replay.journal import Batch, Journal, RemappedRecord
from fhirline.streams.operate.replay.offset_ranges import Span
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.replay.topic_index import HeldIndex, digest, sortable
from fhirline.streams.step3_restore.erased import ErasureListFeed
from fhirline.streams.step3_restore.state import PartitionState, StateCache, StateEntryTooLarge
from fhirline.streams.step4_normalize.follow import Followed, follow, state_too_large
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import BUNDLE, canonical_topic

AT_A_TIME = 500
"""Events between two looks at whether to stop; also what a kill makes map again."""

_CANONICAL = canonical_topic("")


@dataclass(frozen=True, slots=True)
class Job:
    """One raw partition to map. ``live``: no longer the span, but what has come behind it since the replay began."""

    span: Span
    selection: Selection
    folder: Path
    live: bool = False
    everything: bool = False
    """Keep the values of all keys, also of those that are the same."""

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.span.source.replace('/', '-')}.sqlite"

    @property
    def rebuilds(self) -> bool:
        """Whether folds begin with nothing. Not where the partition's first records are gone: state knows of them."""
        return self.selection.rebuilds and self.span.complete

    def selects(self, raw: ConsumerRecord) -> bool:
        """Whether the range takes a record of the span. One that cannot be opened is taken where nothing is asked."""
        if self.span.offsets is not None and raw.offset not in self.span.offsets:
            return False
        if not self.selection.takes(raw):
            return False
        if not self.selection.opens:
            return True
        try:
            return self.selection.wants(envelope_of(raw))
        except UnreadableBody:
            return False


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a partition: raw offset up to which it has come, and how many events were mapped on the way."""

    source: str
    offset: int
    events: int


class Mapping:
    """What a process needs for any partition, made once."""

    def __init__(self, settings: Settings, held: HeldIndex) -> None:
        self._settings = settings
        self._held = held
        self._normalize: Normalizer = build_normalizer(settings)
        self._erasures = ErasureListFeed(settings)

    def run(self, job: Job, tell: Callable[[Step], None], stopped: Callable[[], bool]) -> bool:
        """Map the job's partition from where its journal ends; whether it came to the end."""
        if stopped():
            return False
        span = job.span
        with Journal(job.journal) as journal, Scanner(self._settings) as scanner:
            start, end = self._extent(job, journal)
            if end is not None and start >= end:
                return True
            state = self._state(job, journal)
            upto = None if end is None else {span.place: end}
            next = start
            for messages in _batches(scanner.read({span.place: start}, upto)):
                batch = self._batch(messages, job, state)
                next = (messages[-1].offset() or 0) + 1
                journal.save(batch, next, job.live)
                tell(Step(span.source, next, len(batch.seen)))
                if stopped():
                    return False
            if not job.live and next < span.live_from:
                # Whatever the range left out on the way there, the base knows of: only what comes behind it is live.
                journal.save(Batch(), span.live_from, job.live)
        return True

    def _extent(self, job: Job, journal: Journal) -> tuple[int, int | None]:
        """From where to where; None: to the partition's end."""
        span, next = job.span, journal.next
        if job.live:
            return max(next or 0, span.live_from), None
        return (span.start if next is None else next), span.end

    def final(self, job: Job) -> PartitionState:
        """What is remembered when all of the job's events have been mapped."""
        with Journal(job.journal) as journal:
            return self._state(job, journal)

    def _state(self, job: Job, journal: Journal) -> PartitionState:
        """The base, and on top what the journal's events have said: of equal versions the one read last wins."""
        state = PartitionState()
        if not job.rebuilds:
            cache = StateCache(self._settings, job.span.state_topic)
            cache.restore([job.span.partition])
            state = cache.partition(job.span.partition)
        for key, value in journal.registers():
            state.read(key, value)
        return state

    def _batch(self, messages: Iterable[Message], job: Job, state: PartitionState) -> Batch:
        batch = Batch()
        for message in messages:
            raw = from_confluent(message)
            if not job.live and not job.selects(raw):
                continue
            followed, told = self.map(raw, job, state)
            batch.seen.append(raw.offset)
            batch.registers.update((record.key, record.value or b"") for record in told)
            if followed.error:
                batch.failed.append((raw.offset, followed.error, _event_key(followed)))
            self._keep(raw, followed, batch)
        if not (job.everything or job.live):  # behind the span the index is older than what live workers write
            for place, made in batch.made.items():  # looked up once a batch: most keys come more than once in it
                held = self._held.get(*place)
                if held is not None and held.digest == made.digest:
                    batch.made[place] = replace(made, value=None, headers=None)
        return batch

    def map(self, raw: ConsumerRecord, job: Job, state: PartitionState) -> tuple[Followed, list[ProducerRecord]]:
        """All that follows from a raw record, and the registers that remember it: as a worker would, and only here.

        ``state`` remembers it too, which changes nothing where it already does.
        """
        followed = follow(raw, self._normalize, state, self._settings.partitions, self._erasures.blocks)
        largest = self._settings.message_max_bytes
        try:
            return followed, state.record_updates("", raw.partition, followed.key, followed.state_updates, largest)
        except StateEntryTooLarge:
            return state_too_large(raw, job.span.state_topic), []

    def _keep(self, raw: ConsumerRecord, followed: Followed, batch: Batch) -> None:
        if (normalized := followed.normalized) is None:
            return
        canonical = (each for each in followed.records if each.topic.startswith(_CANONICAL) and each.topic != BUNDLE)
        for output, record in zip(normalized.outputs, canonical, strict=True):
            assert record.value is not None
            assert record.partition is not None
            own = output.version == normalized.version and "#" in output.resource["meta"]["source"]
            place = (output.key, record.partition)
            batch.made[place] = RemappedRecord(
                *place,
                sortable(output.version),
                raw.offset,
                own,
                output.constant,
                digest(record.value),
                record.value,
                orjson.dumps([(name, value.decode()) for name, value in record.headers]),
            )


def _event_key(followed: Followed) -> str:
    """Of an event that failed: as its letter names it."""
    letters: list[ProducerRecord] = [each for each in followed.records if each.topic.startswith("dead-letter.")]
    return next((found for each in letters if (found := header(each.headers, EVENT_KEY))), "")


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    batch: list[Message] = []
    for message in messages:
        batch.append(message)
        if len(batch) == AT_A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Process:
    """What a mapping process has made for all of its tasks."""

    settings: Settings
    mapping: Mapping
    tell: Callable[[Step], None]
    stopped: Callable[[], bool]


_processes: list[Process] = []


def begin(settings: Settings, index: Path, vendors: tuple[str, ...], prefix: str, steps: Any, stop: Any) -> None:
    """In a new process. Ctrl-C is the parent's to hear; where the parent is gone, so is this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    mapping = Mapping(settings, HeldIndex(index, settings, vendors, prefix))
    tune_gc()
    _processes.append(Process(settings, mapping, steps.put, stop.is_set))


def in_process() -> Process:
    return _processes[0]


def remap(job: Job) -> bool:
    """A task. Whether the partition came to its end; False: it was told to stop."""
    here = in_process()
    return here.mapping.run(job, here.tell, here.stopped)
