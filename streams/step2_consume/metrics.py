"""The worker's metrics: outcomes of events and resources, latency, and schema drift of the vendors' payloads."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, partial

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as CounterMetric

from fhirline.mappers.fhir.validation import Disagreement
from fhirline.mappers.pipeline.normalize import UNKNOWN
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.observe.metrics.labels import BATCH_BUCKETS, LATENCY_BUCKETS, OTHER, PATHS, Bounded
from fhirline.streams.observe.metrics.registry import dead_letter_counter
from fhirline.streams.step4_normalize.dead_letter import (
    CANNOT_BE_OPENED,
    MAPPING_FAILED,
    TOO_COMPLEX,
    TOO_LARGE,
    WORKER_ENDED,
)
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.streams.step4_normalize.raw_event import UNREADABLE_HEADER
from fhirline.topics.declared import BUNDLE, OUTCOME, RESOURCE_TYPES, canonical_topic

CODES = (
    *("empty", "not-json", "not-an-object", "too-deep", UNREADABLE_HEADER),
    *(CANNOT_BE_OPENED, MAPPING_FAILED, TOO_COMPLEX, TOO_LARGE, WORKER_ENDED, "resource-invalid", "resource-refused"),
)
"""Error codes of the worker's dead letters (docs/contracts.md)."""

PRACTITIONER_REFUSED = ("invalid", "too-large", "worker-ended", "defect")
"""Reasons why a Practitioner is not published."""

OLD_SECONDS = 86_400.0
"""An event received longer ago is a backfill or a replay. Its latency is not measured."""

TYPES = {canonical_topic(item): item for item in RESOURCE_TYPES} | {BUNDLE: "Bundle", OUTCOME: "OperationOutcome"}
_KNOWN_TYPES = frozenset(TYPES.values())

COMPILED = "compiled"
REFERENCE = "fhir.resources"


class WorkerMetrics:
    """The metrics of all vendors. Small sets of series exist from the start, at 0, so that a first rise is seen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = CounterMetric(
            "fhirline_events",
            "Raw events by result: mapped, nothing (nothing to publish), partial (some of it is a dead "
            "letter), dead-letter",
            ("vendor", "event_type", "outcome"),
            registry=registry,
        )
        self.resources = CounterMetric(
            "fhirline_resources",
            "Resources: published, unchanged (a constant one that had gone out before), refused (a dead letter's)",
            ("vendor", "resource_type", "outcome"),
            registry=registry,
        )
        self.practitioners_refused = CounterMetric(
            "fhirline_practitioners_refused",
            "Practitioners that could not be published, whose topic keeps the last record: invalid, too-large (for "
            "Kafka), worker-ended (processes ended over it), defect (of fhirline, or a vendor that is not configured)",
            ("vendor", "reason"),
            registry=registry,
        )
        self.dead_letters = dead_letter_counter(registry)
        self.unmapped = CounterMetric(
            "fhirline_unmapped_codes",
            "Words of vendors that have no row in their code table",
            ("vendor", "table"),
            registry=registry,
        )
        self.drift = CounterMetric(
            "fhirline_drift",
            "Events with a value at a path that no rule treats, or with a value of an unexpected form there",
            ("vendor", "path"),
            registry=registry,
        )
        self.disagreements = CounterMetric(
            "fhirline_validator_disagreements",
            "Resources on which the compiled validator and fhir.resources disagree, by which of them refused",
            ("resource_type", "refused_by"),
            registry=registry,
        )
        self.latency = Histogram(
            "fhirline_raw_to_canonical_seconds",
            "From an event's receipt (the raw record's timestamp) to Kafka's acknowledgement of all that follows; "
            "without events older than a day",
            ("vendor",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.old = CounterMetric(
            "fhirline_old_events",
            "Events received more than a day before they were mapped: backfills and replays, without latency",
            ("vendor",),
            registry=registry,
        )
        self.batch_events = Histogram(
            "fhirline_batch_events", "Events in a batch", ("vendor",), buckets=BATCH_BUCKETS, registry=registry
        )
        self.batch_seconds = Histogram(
            "fhirline_batch_seconds",
            "From a batch's begin to the acknowledgement of all that follows from it",
            ("vendor",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        for resource_type in _KNOWN_TYPES:
            for side in (COMPILED, REFERENCE):
                self.disagreements.labels(resource_type, side)

    def practitioner_refused(self, vendor: str, reason: str) -> None:
        """Count a Practitioner that is not published, as a refused resource too."""
        vendor = vendor if vendor in VENDORS else OTHER
        self.practitioners_refused.labels(vendor, reason).inc()
        self.resources.labels(vendor, "Practitioner", "refused").inc()

    def disagreed(self, found: Disagreement) -> None:
        kind = found.resource_type if found.resource_type in _KNOWN_TYPES else OTHER
        self.disagreements.labels(kind, COMPILED if found.compiled else REFERENCE).inc()


class VendorMetrics:
    """The series of `WorkerMetrics` that belong to one vendor, with bounds for their labels."""

    def __init__(self, metrics: WorkerMetrics, vendor: str, tables: Iterable[str]) -> None:
        # Finding a series by its labels costs more than counting in it, so each is found once.
        self.events = cache(partial(metrics.events.labels, vendor))
        self.resources = cache(partial(metrics.resources.labels, vendor))
        self.dead_letters = cache(partial(metrics.dead_letters.labels, vendor))
        self.unmapped = cache(partial(metrics.unmapped.labels, vendor))
        self.drift = cache(partial(metrics.drift.labels, vendor))
        self.path = Bounded(PATHS)
        self.table = Bounded(100, tables)
        self.code = Bounded(20, CODES)
        declared = vendor_mapping(vendor)
        for event_type in (*declared.events, *declared.unmapped, UNKNOWN):
            self.events(event_type, "mapped")
        for code in CODES:
            self.dead_letters(code)
        for table in tables:
            self.unmapped(table)
        for reason in PRACTITIONER_REFUSED:
            metrics.practitioners_refused.labels(vendor, reason)
        self.latency = metrics.latency.labels(vendor)
        self.old = metrics.old.labels(vendor)
        self.batch_events = metrics.batch_events.labels(vendor)
        self.batch_seconds = metrics.batch_seconds.labels(vendor)

    def batch(self) -> "BatchCounts":
        return BatchCounts(self)


class BatchCounts:
    """The counts that one batch adds to the metrics, once it has been acknowledged.

    A batch repeated after a crash counts once.
    """

    __slots__ = ("_dead", "_drift", "_events", "_refused", "_series", "_started", "_unmapped", "unchanged")

    def __init__(self, series: VendorMetrics) -> None:
        self._series = series
        self._started = time.monotonic()
        self._events: Counter[tuple[str, str]] = Counter()
        self._dead: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._unmapped: Counter[str] = Counter()
        self._drift: Counter[str] = Counter()
        self.unchanged: list[str] = []
        """Topics of constant records that were not written again."""

    def event(self, mapped: MappedEvent) -> None:
        """Count an event that has been mapped."""
        normalized = mapped.normalized
        if normalized is None:
            self._events[UNKNOWN, "erased" if mapped.erased else "dead-letter"] += 1
        else:
            outcome = "partial" if mapped.error else "mapped" if normalized.outputs else "nothing"
            self._events[normalized.event_type, outcome] += 1
            if normalized.unmapped:
                self._unmapped.update(normalized.unmapped)
            if normalized.schema_drift:
                self._drift.update(normalized.schema_drift)
            for refusal in normalized.refusals:
                self._refused[refusal.resource_type] += 1
        if mapped.error:
            self._dead[mapped.error] += 1

    def delivered(
        self,
        raws: Sequence[ConsumerRecord],
        records: Iterable[ProducerRecord],
        too_large: Sequence[ProducerRecord],
        letters: int,
    ) -> None:
        """Add the acknowledged batch to the metrics. ``letters``: dead letters written for ``too_large`` records."""
        series = self._series
        published = Counter([record.topic for record in records])
        published.subtract([record.topic for record in too_large])
        self._refused.update(TYPES[record.topic] for record in too_large if record.topic in TYPES)
        self._dead[TOO_LARGE] += letters
        for topic, count in published.items():
            if count and topic in TYPES:
                series.resources(TYPES[topic], "published").inc(count)
        for topic, count in Counter(self.unchanged).items():
            series.resources(TYPES[topic], "unchanged").inc(count)
        for kind, count in self._refused.items():
            series.resources(kind if kind in _KNOWN_TYPES else OTHER, "refused").inc(count)
        for (event_type, outcome), count in self._events.items():
            series.events(event_type, outcome).inc(count)
        for code, count in self._dead.items():
            series.dead_letters(series.code(code)).inc(count)
        for table, count in self._unmapped.items():
            series.unmapped(series.table(table)).inc(count)
        for path, count in self._drift.items():
            series.drift(series.path(path)).inc(count)
        self._observe(raws)

    def _observe(self, raws: Sequence[ConsumerRecord]) -> None:
        series, now, old = self._series, time.time(), 0
        for raw in raws:
            age = now - raw.timestamp_ms / 1000
            if age > OLD_SECONDS:
                old += 1
            else:
                series.latency.observe(max(0.0, age))  # clocks of two machines differ
        if old:
            series.old.inc(old)
        series.batch_events.observe(len(raws))
        series.batch_seconds.observe(time.monotonic() - self._started)
