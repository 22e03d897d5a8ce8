"""One batch of raw records: restore the state, map, deliver. When that returns, the records may be acknowledged."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import Normalized, Normalizer
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.headers import EVENT_KEY, TABLES_VERSION, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.observe.malloc_tuning import release_memory
from fhirline.streams.step2_consume.fencing import Fence, exit_uncommitted, yielding_to_loop
from fhirline.streams.step2_consume.metrics import BatchCounts, VendorMetrics, WorkerMetrics
from fhirline.streams.step2_consume.restore_on_assignment import Restoring
from fhirline.streams.step2_consume.unfinished import Unfinished
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step3_restore.state import PartitionState, StateCache, StateEntryTooLarge
from fhirline.streams.step4_normalize.dead_letter import TOO_LARGE, smaller_letters, too_large_letter
from fhirline.streams.step4_normalize.map_event import given_up, map_event, state_too_large
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, dead_letter_topic, state_topic

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import BatchSpans, Tracing

log = structlog.get_logger("worker")

MAX_CONSTANTS = 100_000
"""Constant records whose values are kept, to leave out those that would be written again unchanged."""

MOST_MADE = 33_554_432
"""Bytes of records that a batch may have made before they are delivered; the rest of the batch is mapped after that.
An event makes 16 MiB at most, so that a batch of the largest ones would otherwise be kept in memory whole."""

LARGE_BATCH = 8_388_608
"""Bytes of a batch's raw records after which freed memory is given back to the system: they make many times as much."""


@dataclass(slots=True)
class _Mapped:
    """The records and state updates of a batch, before they are delivered."""

    counts: BatchCounts
    records: list[ProducerRecord] = field(default_factory=list)
    contributions: dict[bytes, ProducerRecord] = field(default_factory=dict)
    """The last contribution of each key: it contains the batch's earlier ones."""
    constants: dict[bytes, bytes | None] = field(default_factory=dict)
    sources: dict[int, ConsumerRecord] = field(default_factory=dict)
    """The ``id()`` of each made record → the raw record that it follows from. State entries are left out."""
    patients: set[str] = field(default_factory=set)
    """``tenant|patient key`` of each event that could be opened."""


class BatchProcessor:
    """Restores, maps and delivers the batches of one raw topic."""

    def __init__(
        self,
        vendor: str,
        settings: Settings,
        normalize: Normalizer,
        publisher: RecordPublisher,
        fence: Fence,
        erasures: ErasureListFeed,
        opener: Opener,
        metrics: WorkerMetrics,
        tracing: "Tracing | None" = None,
        enriched: bool = False,
    ) -> None:
        self.vendor = vendor
        self._metrics = VendorMetrics(metrics, vendor, normalize.terminology.names)
        self._tracing = tracing
        self._debug = settings.log_level == "debug"
        self.state = StateCache(settings, state_topic(vendor, enriched), opener=opener)
        self._opener = opener
        self._partitions = settings.partitions
        self._largest = settings.message_max_bytes
        self._normalize = normalize
        self._publisher = publisher
        self._fence = fence
        self._erasures = erasures
        self._restoring = Restoring(self.state)
        self._constants: dict[bytes, bytes | None] = {}
        """Values of constant records that have been acknowledged, by key."""

    async def process(self, raws: Sequence[ConsumerRecord], unfinished: Unfinished) -> None:
        """Return once everything that follows from the records is durable. Raises PublishFailed, RestoreFailed.

        ``unfinished`` marks them as begun while they are mapped. What has been delivered of a batch that ends the
        process is delivered again with the same bytes: the caller acknowledges nothing before this returns.
        """
        states: dict[int, PartitionState] = {}
        raws = await self._open(raws)
        size = sum(len(raw.value or b"") for raw in raws)
        while raws:
            self._exit_if_lost(states)
            done, part_states = await self._process_part(raws, unfinished)
            states |= part_states
            raws = raws[done:]
        if size > LARGE_BATCH:
            release_memory()

    async def _open(self, raws: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Open the records, before they are marked as begun: a lost key must not look like an event that ends workers.

        Raises DataKeyMissing, WrappingKeyMissing and EncryptionNotSet: then nothing of the batch is committed.
        """
        if self._opener.needs_keys(raws):
            await asyncio.to_thread(self._opener.read_on, raws)
        return [self._opener.open(raw) for raw in raws]

    def _exit_if_lost(self, states: Mapping[int, PartitionState]) -> None:
        """End the process where partitions went away: their new owner's output must not be overwritten."""
        if any(self.state.cached(partition) is not state for partition, state in states.items()):
            exit_uncommitted("partitions went away under a batch")

    async def _process_part(
        self, raws: Sequence[ConsumerRecord], unfinished: Unfinished
    ) -> tuple[int, dict[int, PartitionState]]:
        """Map and deliver the first of the records: all, or as many as make `MOST_MADE` bytes.

        Returns how many these are, and the states that they were mapped with.
        """
        mapped = _Mapped(self._metrics.batch())
        spans = self._tracing.batch(raws[0].topic, len(raws)) if self._tracing else None
        async with self._restoring.lock:
            states = await self._ready({raw.partition for raw in raws})
            async with unfinished.attempt(raws) as give_up:
                done = await self._map(raws, states, mapped, spans, give_up=give_up)
        await self._exit_if_erased(mapped.patients)
        self._fence.check()
        self._exit_if_lost(states)
        too_large, letters = await self._deliver(mapped)
        mapped.counts.delivered(raws[:done], [*mapped.records, *mapped.contributions.values()], too_large, letters)
        if spans:
            spans.end()
        if len(self._constants) > MAX_CONSTANTS:
            self._constants.clear()
        self._constants.update(mapped.constants)
        return done, states

    async def _map(
        self,
        raws: Sequence[ConsumerRecord],
        states: Mapping[int, PartitionState],
        into: _Mapped,
        spans: "BatchSpans | None",
        *,
        give_up: bool,
    ) -> int:
        """Map records until `MOST_MADE` bytes are made. Returns the number of records that were mapped."""
        done = made = 0
        async for raw in yielding_to_loop(raws):
            state = states[raw.partition]
            span = spans.begin(raw) if spans else None
            mapped = (
                given_up(raw, self._erasures.erasure_list.blocks_key)
                if give_up
                else map_event(raw, self._normalize, state, self._partitions, self._erasures.erasure_list.blocks)
            )
            if mapped.key:
                into.patients.add(mapped.key)
            try:
                entries = self.state.record_updates(
                    state, raw.partition, mapped.key, mapped.state_updates, self._largest, raw.data_key
                )
            except StateEntryTooLarge:
                mapped, entries = state_too_large(raw, self.state.topic, self._normalize), []
            if spans and span:
                traced = spans.mapped(span, mapped.records, mapped.event_type, mapped.error)
                mapped = replace(mapped, records=traced)
            into.counts.event(mapped)
            for record in mapped.records:
                if record.constant:
                    if record.value in (self._constants.get(record.key), into.constants.get(record.key)):
                        into.counts.unchanged.append(record.topic)
                        continue
                    into.constants[record.key] = record.value
                into.sources[id(record)] = raw
                if record.topic == CONTRIBUTIONS:
                    if replaced := into.contributions.get(record.key):
                        del into.sources[id(replaced)]  # another record may get its id
                    into.contributions[record.key] = record
                    continue
                into.records.append(record)
            into.records.extend(entries)
            done += 1
            made += sum([len(record.value or b"") for record in (*mapped.records, *entries)])  # of constants too
            if self._debug and mapped.normalized:
                _log_mapped(raw, mapped.normalized)
            if mapped.error:
                _log_letter(raw, mapped.records[-1], mapped.error)
            elif mapped.erased:
                log.info("erased patient passed over", vendor=self.vendor, event_key=mapped.erased)
            if made > MOST_MADE:
                break
        return done

    async def _exit_if_erased(self, patients: Iterable[str]) -> None:
        """End the process where one of the patients was erased while the batch was mapped.

        The batch is read again, and their events are then skipped.
        """
        if not self._erasures.fresh:
            await self._erasures.ensure_fresh()
        if any(self._erasures.erasure_list.blocks_key(f"{self.vendor}|{patient}") for patient in patients):
            exit_uncommitted("a patient was erased under a batch")

    async def _deliver(self, mapped: _Mapped) -> tuple[Sequence[ProducerRecord], int]:
        """Deliver everything: the barrier. A record too large for Kafka becomes its event's dead letter within it.

        Contributions follow when the state is durable. Otherwise a process that ends between the two could leave a
        contribution that is newer than the state; the next process would replace it with an older one, and the
        Practitioner would go back to what it was (state.md §9).

        Returns the records that were too large, and the number of dead letters for them that are not counted yet.
        """
        too_large = [*await self._publisher.publish_async(self._fence.passing(mapped.records), self._advance)]
        contributions = mapped.contributions.values()
        too_large += await self._publisher.publish_async(self._fence.passing(contributions))
        letters: dict[str, ProducerRecord] = {}
        already_counted = 0
        sources: dict[int, ConsumerRecord] = {}
        for record in too_large:
            if (raw := mapped.sources.get(id(record))) is None:
                # `record_updates` keeps to the settings, so the topic's limit is the lower one.
                raise PublishFailed(f"{record.topic}: takes less than FHIRLINE_MESSAGE_MAX_BYTES: `fhirline doctor`")
            own = record.topic == dead_letter_topic(raw.vendor)  # the event's dead letter itself, for another reason
            already_counted += own
            tables = header(record.headers, TABLES_VERSION) or ""
            letter = record if own else too_large_letter(raw, record.topic, tables)
            letter = letters.setdefault(str(raw.position), letter)
            sources[id(letter)] = raw
            if not own:
                _log_letter(raw, letter, TOO_LARGE, topic=record.topic)
        for large in await self._publisher.publish_async(letters.values()):
            for smaller in smaller_letters(sources[id(large)], large):
                if not await self._publisher.publish_async([smaller]):
                    break
            else:
                raise PublishFailed(f"{large.topic}: takes less than a dead letter without key and value")
        return too_large, len(letters) - already_counted

    async def prepare(self) -> None:
        """Restore the partitions just assigned, so that the first batch need not wait. Ends the process on failure."""
        await self._restoring.prepare()

    async def _ready(self, partitions: set[int]) -> dict[int, PartitionState]:
        """Return the partitions' states once they are restored and the erasure list is fresh."""
        while True:
            await self._restoring.read_on()
            states = await self._restoring.restored(partitions)
            if self._erasures.fresh:  # a restore may take longer than the list stays fresh
                return states
            await self._erasures.ensure_fresh()

    def _advance(self, record: Message) -> None:
        """Advance the state's position over an acknowledged entry of our own."""
        if record.topic() == self.state.topic and (state := self.state.ready(record.partition() or 0)):
            state.delivered(record.offset() or 0)


def _log_mapped(raw: ConsumerRecord, normalized: Normalized) -> None:
    shown = {"raw": str(raw.position), "event_key": normalized.version.event_key, "event_type": normalized.event_type}
    log.debug("event mapped", vendor=raw.vendor, **shown, resources=len(normalized.outputs))


def _log_letter(raw: ConsumerRecord, letter: ProducerRecord, code: str, **more: str) -> None:
    """Log a dead letter. ``event_key`` is the gateway's, which leads from the webhook to the dead letter."""
    event = header(letter.headers, EVENT_KEY)
    log.warning("dead letter", vendor=raw.vendor, raw=str(raw.position), event_key=event, code=code, **more)
