"""The enrichment's metrics."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fhirline.streams.observe.metrics.labels import LATENCY_BUCKETS
from fhirline.streams.observe.metrics.registry import dead_letter_counter


class EnrichMetrics:
    """Counts surveys. ``codes``: the error codes of the stage's dead letters."""

    def __init__(self, registry: CollectorRegistry, vendor: str, codes: Iterable[str]) -> None:
        surveys = Counter(
            "fhirline_surveys",
            "Surveys by result: enriched, dead-letter",
            ("vendor", "outcome"),
            registry=registry,
        )
        letters = dead_letter_counter(registry)
        self.enriched = surveys.labels(vendor, "enriched")
        self.failed = surveys.labels(vendor, "dead-letter")
        self.letters = {code: letters.labels(vendor, code) for code in codes}
        self.seconds = Histogram(
            "fhirline_survey_seconds",
            "From reading a thin event to the acknowledgement of its enriched one, retries included",
            ("vendor",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        ).labels(vendor)
        self.in_hand = Gauge(
            "fhirline_surveys_in_hand", "Surveys being fetched, or waiting for a retry", registry=registry
        )

    def dead_letter(self, code: str) -> None:
        self.failed.inc()
        self.letters[code].inc()
