"""Practitioners: folded over the contributions of all raw partitions, and published by one worker each (state.md §9).

The contributions to a Practitioner lie in one partition of ``fold.practitioner``, the same number as the Practitioner's
own. So the worker that owns that partition is the only one that publishes it. The topic is input and state at once:

* On assignment the partition is read from its beginning to its end, as any state is.
* A record that comes later is applied in its place. Its Practitioner is built of all its contributions and published.
  Only then may the record's offset be committed.
* A record that was read before, by a restore or before a crash, is not applied again: an older contribution would
  replace a newer one. Its Practitioner is published all the same.

So each Practitioner's last record has every contribution that was written, whatever the order of the partitions.
"""

from collections.abc import Mapping, Sequence

import structlog

from fhirline.config.settings import Settings
from fhirline.mappers.fhir.validation import problems_text
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.pipeline.output import Output
from fhirline.mappers.pipeline.practitioner_fold import folded, latest
from fhirline.streams.kafka.headers import Headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step2_consume.fencing import Fence, exit_uncommitted, yielding_to_loop
from fhirline.streams.step2_consume.metrics import WorkerMetrics
from fhirline.streams.step2_consume.restore_on_assignment import Restoring
from fhirline.streams.step2_consume.unfinished import Unfinished
from fhirline.streams.step3_restore.contribution_cache import (
    Contribution,
    ContributionCache,
    PartitionContributions,
    subject_of,
)
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, canonical_topic
from fhirline.topics.partition import partition_for

log = structlog.get_logger("worker")

PRACTITIONER = "Practitioner"
MAX_PUBLISHED = 100_000
"""Practitioners whose last record is kept, to leave out those that would be written again unchanged."""


def practitioner_record(
    normalize: Normalizer, contributions: Sequence[Contribution], partitions: int
) -> ProducerRecord | None:
    """Make the record of a Practitioner; None where it is invalid, which is logged with its problems.

    Its headers are those of the contribution with the greatest version. Raises KeyError where the vendor is not
    configured.
    """
    by_source = {contribution.key.source: contribution for contribution in contributions}
    entries = {source: contribution.entries for source, contribution in by_source.items()}
    newest = by_source[latest(entries)]
    vendor, tenant, subject, _ = newest.key
    made = folded(normalize, vendor, tenant, subject, entries)
    if not isinstance(made, Output):
        log.error("practitioner invalid", vendor=vendor, key=subject, problems=problems_text(made))
        return None
    topic, partition = canonical_topic(PRACTITIONER), partition_for(made.partition_by, partitions)
    return ProducerRecord(topic, made.key.encode(), made.value, partition, newest.headers)


class PractitionerProcessor:
    """Folds and delivers the batches of ``fold.practitioner``."""

    def __init__(
        self,
        settings: Settings,
        normalize: Normalizer,
        publisher: RecordPublisher,
        fence: Fence,
        metrics: WorkerMetrics,
    ) -> None:
        self.state = ContributionCache(settings, CONTRIBUTIONS)
        self._partitions = settings.partitions
        self._normalize = normalize
        self._publisher = publisher
        self._fence = fence
        self._metrics = metrics
        self._restoring = Restoring(self.state)
        self._published: dict[bytes, tuple[bytes | None, Headers]] = {}
        """Value and headers of the records that have been acknowledged, by key."""

    async def prepare(self) -> None:
        """Restore the partitions just assigned, so that the first batch need not wait. Ends the process on failure."""
        self._published.clear()  # another worker may have written meanwhile
        await self._restoring.prepare()

    async def process(self, contributions: Sequence[ConsumerRecord], unfinished: Unfinished) -> None:
        """Return once the Practitioners of these records are durable. Raises PublishFailed, RestoreFailed.

        ``unfinished`` marks the records as begun while the Practitioners are built.
        """
        async with self._restoring.lock:
            held = await self._restoring.restored({record.partition for record in contributions})
            async with unfinished.attempt(contributions) as give_up:
                records = await self._fold(contributions, held, give_up=give_up)
        self._fence.check()
        if any(self.state.cached(partition) is not state for partition, state in held.items()):
            exit_uncommitted("partitions went away under a batch")  # their new owner's output must not be overwritten
        for record in await self._publisher.publish_async(self._fence.passing(records)):
            records.remove(record)
            self._refuse(_vendor(record), record.key.decode(), "too-large")
        if len(self._published) > MAX_PUBLISHED:
            self._published.clear()
        for record in records:
            self._published[record.key] = record.value, record.headers
            self._count(record, "published")

    async def _fold(
        self, contributions: Sequence[ConsumerRecord], held: Mapping[int, PartitionContributions], *, give_up: bool
    ) -> list[ProducerRecord]:
        """Apply the records, and make each Practitioner that they name once."""
        subjects: dict[str, int] = {}
        for record in contributions:
            state = held[record.partition]
            if record.offset >= (state.position or 0):
                state.read(record.key or b"", record.value, record.headers)
                state.position = record.offset + 1
            if subject := subject_of(record.key):
                subjects[subject] = record.partition
        changed: list[ProducerRecord] = []
        if give_up:  # a later contribution builds it again
            for subject, partition in subjects.items():
                for contribution in held[partition](subject)[:1]:
                    self._refuse(contribution.key.vendor, subject, "worker-ended")
            return changed
        async for subject, partition in yielding_to_loop(subjects.items()):
            made = self._record(held[partition](subject))
            if made is None:
                continue
            if self._published.get(made.key) == (made.value, made.headers):
                self._count(made, "unchanged")
            else:
                changed.append(made)
        return changed

    def _record(self, contributions: Sequence[Contribution]) -> ProducerRecord | None:
        """Make a Practitioner's record. None where there is nothing of it any more, and where it cannot be made."""
        if not contributions:
            return None
        vendor, _, subject, _ = contributions[0].key
        try:
            record = practitioner_record(self._normalize, contributions, self._partitions)
        except Exception as error:  # noqa: BLE001  # a defect costs this Practitioner its record, not the partition
            self._refuse(vendor, subject, "defect", error=type(error).__name__)
            return None
        if record is None:
            self._refuse(vendor, subject, "invalid")
        return record

    def _refuse(self, vendor: str, subject: str, reason: str, **more: str) -> None:
        """Log and count a Practitioner that is not published, whose topic keeps its last record."""
        log.error("practitioner refused", vendor=vendor, key=subject, reason=reason, **more)
        self._metrics.practitioner_refused(vendor, reason)

    def _count(self, record: ProducerRecord, outcome: str) -> None:
        self._metrics.resources.labels(_vendor(record), PRACTITIONER, outcome).inc()


def _vendor(record: ProducerRecord) -> str:
    return dict(record.headers).get("vendor", b"").decode()
