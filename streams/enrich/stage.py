"""The enrichment stage: thin events in, enriched events or dead letters out (architecture.md §4).

The invariant: **an offset is committed only after Kafka has acknowledged the event's outcome**, and that of every event
before it in its partition (`kafka.group_reader`). A process that ends reads unfinished surveys again after its restart.
A survey that is fetched twice is written twice: the same results are the same event, with the same event key, and a
repeat of an event changes nothing (mapping.md §3.2).

A survey that waits for a retry is a task that sleeps. It does not hold up the others: it occupies no request slot,
reading continues up to ``FHIRLINE_ENRICH_SURVEYS`` surveys, and only its own partition's commits wait.

A process that has lost its partitions (a pause, a rebalance) may still write what it has fetched. That is a repeat like
any other. No fence is needed, because the stage keeps no state.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import structlog

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody
from fhirline.mappers.registry import partition_key
from fhirline.streams.enrich.metrics import EnrichMetrics
from fhirline.streams.enrich.survey import Abandoned, Fetcher, NotEnriched, enriched_record, thin_survey
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.group_reader import Assignment, Reader
from fhirline.streams.kafka.headers import COPY_OF, header
from fhirline.streams.kafka.records import ConsumerRecord, Lag, from_confluent
from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable, RawProducer, RecordTooLarge
from fhirline.streams.step3_restore.client_id import client_id
from fhirline.streams.step3_restore.erasure_list import hashing
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step4_normalize.dead_letter import TOO_LARGE, dead_letter, smaller_letters
from fhirline.streams.step4_normalize.raw_event import envelope_of, redacted_value
from fhirline.topics.declared import raw_topic

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing

log = structlog.get_logger("enrich")

VENDOR = "infermedica"
FAILED = "enrichment-failed"
CODES = (FAILED, TOO_LARGE)
COMMIT_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""Time that surveys being fetched or written have at shutdown. Those that wait for a retry are abandoned."""


class Stage:
    """The surveys in progress. ``fetcher``: tenant → its fetcher. ``producer`` awaits each record's acknowledgement."""

    def __init__(
        self,
        settings: Settings,
        producer: RawProducer,
        fetcher: Callable[[str], Fetcher],
        metrics: EnrichMetrics,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._settings = settings
        self._vendor = load_vendors(settings.vendors_file)[VENDOR]
        self._producer = producer
        self._fetcher = fetcher
        self._metrics = metrics
        self._tracing = tracing
        self._reader = Reader(
            settings,
            "enrich",
            raw_topic(VENDOR),
            enrich_group(settings),
            client_id("enrich", hashing(settings)),
            self._revoked,
        )
        self._erasures = ErasureListFeed(settings)
        self._erasures.refresh()  # raises where patients were erased under another key
        self._opener = Opener(settings)
        self._tasks: dict[asyncio.Task[None], Assignment] = {}
        self._failure: BaseException | None = None
        metrics.in_hand.set_function(lambda: len(self._tasks))

    def lags(self) -> list[Lag]:
        """Return the lag of each assigned partition."""
        return self._reader.lags()

    def problems(self) -> list[str]:
        """Return the reasons why nothing is enriched yet."""
        return [] if self._reader.joined else ["no partitions assigned yet"]

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until ``stopping`` is set. Raises KafkaUnavailable where Kafka does not acknowledge."""
        try:
            await self._work(stopping)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
        finally:
            abandoned = [task for task in self._tasks if task.cancel()]
            await asyncio.gather(*abandoned, return_exceptions=True)
            await self._reader.close()
            await asyncio.to_thread(self._opener.close)
            await asyncio.to_thread(self._erasures.close)
        if isinstance(self._failure, KafkaAccessError):  # the erasure list could not be read
            raise KafkaUnavailable(str(self._failure)) from None
        if self._failure is not None:
            raise self._failure

    async def _work(self, stopping: asyncio.Event) -> None:
        committed = time.monotonic()
        while not stopping.is_set() and self._failure is None:
            room = max(0, self._settings.enrich_surveys - len(self._tasks))
            read = [(assignment, from_confluent(message)) for assignment, message in await self._reader.read(room)]
            raws = [raw for _, raw in read]
            if self._opener.needs_keys(raws):
                await asyncio.to_thread(self._opener.read_on, raws)
            for assignment, raw in read:
                self._begin(assignment, self._opener.open(raw))
            if time.monotonic() - committed >= COMMIT_SECONDS:
                self._reader.commit()
                committed = time.monotonic()
        stopping.set()

    def _begin(self, assignment: Assignment, raw: ConsumerRecord) -> None:
        if assignment.revoked:
            return
        assignment.begin(raw.offset)
        due = self._due(raw)
        if due is None:
            assignment.finish(raw.offset)
            return
        task = asyncio.create_task(self._survey(raw, *due))
        self._tasks[task] = assignment
        task.add_done_callback(lambda done: self._ended(done, assignment, raw.offset))

    def _due(self, raw: ConsumerRecord) -> tuple[Envelope, str] | None:
        """Return the event and its survey's id; None where nothing is to be fetched.

        A copy that `fhirline keys encrypt-existing` made is skipped: the survey was fetched for the record that it is
        a copy of, and may no longer be there.

        An unreadable record is skipped: the worker writes its dead letter. So is one that is still sealed, because its
        keys were destroyed or because it was changed.
        """
        if is_sealed(raw) or header(raw.headers, COPY_OF) is not None:
            return None
        try:
            envelope = envelope_of(raw)
        except UnreadableBody:
            return None
        if not self._vendor.settings(envelope.tenant).enrichment:
            return None
        survey_id = thin_survey(envelope)
        return None if survey_id is None else (envelope, survey_id)

    async def _survey(self, raw: ConsumerRecord, envelope: Envelope, survey_id: str) -> None:
        """Complete one survey; return once its outcome is acknowledged."""
        with self._tracing.event(raw, "enrich") if self._tracing else nullcontext():
            await self._outcome(raw, envelope, survey_id)

    async def _outcome(self, raw: ConsumerRecord, envelope: Envelope, survey_id: str) -> None:
        started = time.monotonic()
        try:
            if await self._erased(partition_key(envelope), envelope):
                return
            results = await self._fetcher(envelope.tenant).results(survey_id)
            record = enriched_record(envelope, survey_id, results)
            if await self._erased(f"{VENDOR}|{record.key.decode()}", envelope):  # only the results name the patient
                return
            await self._producer.send(record)
        except NotEnriched as error:
            await self._dead_letter(raw, envelope, FAILED, error.pointer, error.code)
        except RecordTooLarge:
            await self._dead_letter(raw, envelope, TOO_LARGE, "", TOO_LARGE)
        except (Abandoned, KafkaUnavailable, ConfigurationError, KafkaAccessError):
            raise
        except Exception as error:  # a defect of ours costs this survey a dead letter, not the process
            log.error("defect", raw=str(raw.position), exc_info=error)
            await self._dead_letter(raw, envelope, FAILED, "", type(error).__name__)
        else:
            seconds = time.monotonic() - started
            self._metrics.enriched.inc()
            self._metrics.seconds.observe(seconds)
            event_key = envelope.event_key
            log.info("survey enriched", raw=str(raw.position), event_key=event_key, seconds=round(seconds, 3))

    async def _erased(self, patient: str, envelope: Envelope) -> bool:
        """Tell whether the patient is erased, so that nothing is fetched or written."""
        await self._erasures.ensure_fresh()
        found = self._erasures.erasure_list.blocks_key(patient)
        if found:
            log.info("erased patient passed over", vendor=VENDOR, event_key=envelope.event_key)
        return found

    async def _dead_letter(
        self, raw: ConsumerRecord, envelope: Envelope, code: str, pointer: str, problem: str
    ) -> None:
        if await self._erased(partition_key(envelope), envelope):  # erased perhaps during a retry
            return
        named = {"vendor": VENDOR, "raw": str(raw.position), "event_key": envelope.event_key}
        log.warning("dead letter", **named, code=code, path=pointer, problem=problem)
        shown = orjson.dumps([{"code": code, "path": pointer, "problem": problem}]).decode()
        value, event = redacted_value(raw, envelope), envelope.event_key
        letter = dead_letter(raw, value, code, pointer, shown, event, flags=envelope.flags)
        for form in (letter, *smaller_letters(raw, letter)):
            with suppress(RecordTooLarge):
                await self._producer.send(replace(form, timestamp_ms=raw.timestamp_ms))
                return self._metrics.dead_letter(code)
        raise RecordTooLarge

    def _ended(self, task: asyncio.Task[None], assignment: Assignment, offset: int) -> None:
        del self._tasks[task]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            assignment.finish(offset)
        elif not isinstance(error, Abandoned):
            self._failure = self._failure or error

    def _revoked(self, ended: Iterable[Assignment]) -> None:
        """Abandon the surveys of partitions that another process has now."""
        lost = set(ended)
        for task, assignment in list(self._tasks.items()):
            if assignment in lost:
                task.cancel()


def enrich_group(settings: Settings) -> str:
    """Return the name of the enrichment's consumer group."""
    return f"{settings.group}.enrich"
