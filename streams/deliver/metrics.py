"""The delivery's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fhirline.streams.deliver import purge_outcomes
from fhirline.streams.observe.metrics.labels import LATENCY_BUCKETS

DELIVERED, UNCHANGED, REFUSED, WAITING, UNREADABLE = "delivered", "unchanged", "refused", "waiting", "unreadable"
ERASED = "erased"
OUTCOMES = (DELIVERED, UNCHANGED, REFUSED, WAITING, UNREADABLE, ERASED)


class DeliverMetrics:
    """Counts Bundles and requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        bundles = Counter(
            "fhirline_delivered_bundles",
            "Bundles by what became of them: " + ", ".join(OUTCOMES),
            ("outcome",),
            registry=registry,
        )
        self.bundles = {outcome: bundles.labels(outcome) for outcome in OUTCOMES}
        purges = Counter(
            "fhirline_fhir_purges",
            "Resources of erased patients by what became of their history at the server: "
            + ", ".join(purge_outcomes.OUTCOMES),
            ("outcome",),
            registry=registry,
        )
        self.purges = {outcome: purges.labels(outcome) for outcome in purge_outcomes.OUTCOMES}
        self._requests = Counter(
            "fhirline_fhir_requests",
            "Requests to the FHIR server by status, or by why there was no answer",
            ("status",),
            registry=registry,
        )
        self._seconds = Histogram(
            "fhirline_fhir_request_seconds",
            "Duration of the answered requests to the FHIR server",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.completed = Counter(
            "fhirline_delivered_missing_references",
            "Resources that were sent again because the server missed them",
            registry=registry,
        )
        self.seconds = Histogram(
            "fhirline_delivery_seconds",
            "From reading a Bundle to the durable record of its outcome",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_hand = Gauge("fhirline_bundles_in_hand", "Bundles being sent, or waiting in a lane", registry=registry)
        self.slots = Gauge("fhirline_fhir_request_slots", "Requests that may be in flight at once", registry=registry)
        self.parked = Gauge(
            "fhirline_parked_patients", "Patients whose Bundles wait, of the assigned partitions", registry=registry
        )

    def request(self, status: str, seconds: float | None = None) -> None:
        self._requests.labels(status).inc()
        if seconds is not None:
            self._seconds.observe(seconds)
