"""Mapping a raw partition again, in its order, into its journal. Runs in a process of its own, one partition per task.

State at the start (the base) is the state topic's, so that a range includes what all other events contribute. State
updates of the range's own events are merged on top. Of equal versions the later update wins: what an event contributes
today replaces what the earlier mapping made it contribute, and an entry that a *later* event won stays that event's. If
the range is everything, the base is empty, so that entries that no event fills any more become visible.

For a last-writer resource the base contains the greatest version ever written, so a range makes the resource only if
its writer is in the range. Folded resources (Patient, Altibbi's children, Azodha's appointments) are built from all
state entries, and the last one that a range makes is built when all of the range's events have been mapped again.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from fhirline.config.exit_codes import ORPHANED
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.operate.replay.inputs import InputsChanged, differences, inputs_of
from fhirline.streams.operate.replay.journal import Batch, Journal, RemappedRecord, packed
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.replay.topic_index import TopicIndex, digest, sortable
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step3_restore.state import PartitionState, StateCache, StateEntryTooLarge
from fhirline.streams.step4_normalize.map_event import MappedEvent, map_event, state_too_large
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import BUNDLE, CONTRIBUTIONS, SHARED_TYPES, canonical_topic

BATCH = 500
"""Events per transaction of the journal. A process checks after each whether to stop; a kill repeats one at most."""

_CANONICAL = canonical_topic("")


@dataclass(frozen=True, slots=True)
class Job:
    """One raw partition to map. ``live``: map instead the live events, which came after the replay began."""

    offset_range: OffsetRange
    selection: Selection
    folder: Path
    live: bool = False
    everything: bool = False
    """Store the values of all keys, also of those that are the same on the topic."""

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.offset_range.source.replace('/', '-')}.sqlite"

    @property
    def rebuilds(self) -> bool:
        """Tell whether state is built from nothing. It is not where the partition's first records have been deleted."""
        return self.selection.rebuilds and self.offset_range.complete

    def selects(self, raw: ConsumerRecord) -> bool:
        """Tell whether the selection contains a record. Without a filter it contains unreadable ones too."""
        if self.offset_range.offsets is not None and raw.offset not in self.offset_range.offsets:
            return False
        if not self.selection.contains(raw):
            return False
        if not self.selection.opens_records:
            return True
        try:
            return self.selection.contains_event(envelope_of(raw))
        except UnreadableBody:
            return False


@dataclass(frozen=True, slots=True)
class Step:
    """A partition's progress: the raw offset it has reached, and how many events were mapped since the last step."""

    source: str
    offset: int
    events: int


class Remapper:
    """Maps partitions again. Made once per process."""

    def __init__(self, settings: Settings, index: TopicIndex) -> None:
        self._settings = settings
        self._index = index
        self._normalize: Normalizer = build_normalizer(settings)
        self._erasures = ErasureListFeed(settings)

    def run(self, job: Job, report: Callable[[Step], None], stopped: Callable[[], bool]) -> bool:
        """Map the job's partition from where its journal ends. Return whether the end was reached."""
        if stopped():
            return False
        offset_range = job.offset_range
        with Journal(job.journal) as journal, Scanner(self._settings) as scanner:
            start, end = self._extent(job, journal)
            if end is not None and start >= end:
                return True
            state = self._state(job, journal)
            ends = None if end is None else {offset_range.topic_partition: end}
            next = start
            for messages in _batches(scanner.read({offset_range.topic_partition: start}, ends)):
                batch = self._batch(messages, job, state)
                next = (messages[-1].offset() or 0) + 1
                journal.save(batch, next, job.live)
                report(Step(offset_range.source, next, len(batch.mapped)))
                if stopped():
                    return False
            if not job.live and next < offset_range.live_from:
                # The base contains what the range leaves out until there; only later events are live.
                journal.save(Batch(), offset_range.live_from, job.live)
        return True

    def _extent(self, job: Job, journal: Journal) -> tuple[int, int | None]:
        """Return the offsets to read from and to; None for the partition's end."""
        offset_range, next = job.offset_range, journal.next
        if job.live:
            return max(next or 0, offset_range.live_from), None
        return (offset_range.start if next is None else next), offset_range.end

    def final_state(self, job: Job) -> PartitionState:
        """Return the state after all of the job's events have been mapped."""
        with Journal(job.journal) as journal:
            return self._state(job, journal)

    def base(self, job: Job) -> PartitionState:
        """Return the state before the job's first event: empty, or the state topic's."""
        if job.rebuilds:
            return PartitionState()
        opener = Opener(self._settings)
        with closing(opener):
            cache = StateCache(self._settings, job.offset_range.state_topic, opener=opener)
            cache.restore([job.offset_range.partition])
        return cache.partition(job.offset_range.partition)

    def _state(self, job: Job, journal: Journal) -> PartitionState:
        """Merge the journal's state entries over the base. Of equal versions the one read last wins."""
        state = self.base(job)
        for key, value in journal.state_entries():
            state.read(key, value)
        return state

    def _batch(self, messages: Iterable[Message], job: Job, state: PartitionState) -> Batch:
        batch = Batch()
        for message in messages:
            raw = from_confluent(message)
            if not job.live and not job.selects(raw):
                continue
            mapped, state_records = self.map(raw, job, state)
            batch.mapped.append(raw.offset)
            if mapped.erased:
                batch.erased.append(raw.offset)
            batch.state_entries.update((record.key, record.value or b"") for record in state_records)
            if mapped.error:
                batch.failed.append((raw.offset, mapped.error, _event_key(mapped)))
            self._add_records(raw, mapped, batch)
        if not (job.everything or job.live):  # after the range the index is older than what live workers write
            for place, record in batch.records.items():  # once per batch: most keys come more than once in it
                present = self._index.get(*place)
                if present is not None and present.digest == record.digest:
                    batch.records[place] = replace(record, value=None, headers=None)
        return batch

    def map(self, raw: ConsumerRecord, job: Job, state: PartitionState) -> tuple[MappedEvent, list[ProducerRecord]]:
        """Map a raw record as a worker would, without publishing. Return what follows, and its records of state.

        ``state`` is updated. Updating it again with the same event changes nothing.
        """
        mapped = map_event(raw, self._normalize, state, self._settings.partitions, self._erasures.blocks)
        largest = self._settings.message_max_bytes
        try:
            return mapped, state.record_updates("", raw.partition, mapped.key, mapped.state_updates, largest)
        except StateEntryTooLarge:
            return state_too_large(raw, job.offset_range.state_topic, self._normalize), []

    def erased(self, vendor: str, key: str) -> bool:
        """Tell whether the patient with this key (`MappedEvent.key`) has been erased by now."""
        return self._erasures.blocks_key(f"{vendor}|{key}")

    def _add_records(self, raw: ConsumerRecord, mapped: MappedEvent, batch: Batch) -> None:
        if (normalized := mapped.normalized) is None:
            return
        batch.contributions |= {record.key: record for record in mapped.records if record.topic == CONTRIBUTIONS}
        outputs = (item for item in normalized.outputs if item.resource["resourceType"] not in SHARED_TYPES)
        canonical = (item for item in mapped.records if item.topic.startswith(_CANONICAL) and item.topic != BUNDLE)
        for output, record in zip(outputs, canonical, strict=True):
            assert record.value is not None
            assert record.partition is not None
            own = output.version == normalized.version and "#" in output.resource["meta"]["source"]
            place = (output.key, record.partition)
            batch.records[place] = RemappedRecord(
                *place,
                sortable(output.version),
                raw.offset,
                own,
                output.constant,
                digest(record.value),
                record.value,
                packed(record.headers),
            )


def _event_key(mapped: MappedEvent) -> str:
    """Return the event key of an event that failed, from its dead letter."""
    letters: list[ProducerRecord] = [record for record in mapped.records if record.topic.startswith("dead-letter.")]
    return next((found for letter in letters if (found := header(letter.headers, EVENT_KEY))), "")


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    batch: list[Message] = []
    for message in messages:
        batch.append(message)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Process:
    """The objects that a mapping process keeps between its tasks."""

    settings: Settings
    changed: tuple[str, ...]
    """Inputs that differ from the run's, because a file was changed after the run began."""
    remapper: Remapper
    report: Callable[[Step], None]
    stopped: Callable[[], bool]


_processes: list[Process] = []


def begin(settings: Settings, index: Path, plan: Plan, steps: Any, stop: Any) -> None:
    """Set up a new mapping process. It ignores Ctrl-C, which its parent handles, and ends when its parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(ORPHANED)), daemon=True).start()
    remapper = Remapper(settings, TopicIndex(index, settings, plan.selection.vendors, plan.prefix))
    changed = differences(plan.inputs, inputs_of(settings))
    tune_gc()
    _processes.append(Process(settings, changed, remapper, steps.put, stop.is_set))


def this_process() -> Process:
    return _processes[0]


def remap(job: Job) -> bool:
    """Map a job's partition, as a task of a mapping process. Return whether the end was reached before a stop.

    Raises InputsChanged where an input has changed since the run began.
    """
    process = this_process()
    if process.changed:
        raise InputsChanged(f"{', '.join(process.changed)}: changed while the run started: start a new one")
    return process.remapper.run(job, process.report, process.stopped)
