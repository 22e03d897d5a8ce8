"""The gateway's metrics, counted by a middleware around all others."""

from collections.abc import Iterable
from functools import cache
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fhirline.mappers.pipeline.body import CAUSES
from fhirline.streams.observe.metrics.labels import LATENCY_BUCKETS, UNKNOWN, Bounded

ACCEPTED = "accepted"
REFUSAL = "refusal"
"""Key under which a response stores its error code."""
UNREADABLE = "unreadable"
"""Key under which a refusal stores why its body is unreadable; empty for other refusals."""

WEBHOOKS = "/webhooks/"
CODES = 40
"""Limit of error codes as label values; there are fewer."""


class GatewayMetrics:
    """Counts webhooks. ``vendors``: those of vendors.yaml; all others are counted as unknown."""

    def __init__(self, registry: CollectorRegistry, vendors: Iterable[str]) -> None:
        self._vendors = frozenset(vendors)
        self._code = Bounded(CODES)
        self.webhooks = Counter(
            "fhirline_webhooks",
            "Webhooks by answer: accepted, or the error code of the refusal",
            ("vendor", "status", "outcome"),
            registry=registry,
        )
        self.latency = Histogram(
            "fhirline_receive_to_raw_seconds",
            "From an accepted webhook's arrival to its answer, after Kafka's acknowledgement",
            ("vendor",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.unreadable = Counter(
            "fhirline_unreadable_bodies",
            "Webhooks of a proven sender that were refused because their body is unreadable, by reason",
            ("vendor", "reason"),
            registry=registry,
        )
        in_flight = Gauge("fhirline_webhooks_in_flight", "Webhooks at work", registry=registry)
        in_flight.set_function(lambda: self._at_work)
        self._at_work = 0
        # Cached: for each lookup, prometheus-client takes a lock and converts every label to text.
        self._webhooks = cache(self.webhooks.labels)
        self._latency = cache(self.latency.labels)
        for vendor in self._vendors:
            self._webhooks(vendor, "202", ACCEPTED)
            self._webhooks(vendor, "503", "kafka-unavailable")
            self._latency(vendor)
            for reason in CAUSES:
                self.unreadable.labels(vendor, reason)

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            if resource is None or not resource.canonical.startswith(WEBHOOKS):
                return await handler(request)
            started = perf_counter()
            self._at_work += 1
            try:
                response = await handler(request)
            finally:
                self._at_work -= 1
            self._answered(request.match_info["vendor"], response, perf_counter() - started)
            return response

        return measured

    def _answered(self, vendor: str, response: web.StreamResponse, seconds: float) -> None:
        known = vendor if vendor in self._vendors else UNKNOWN
        code = response.get(REFUSAL)
        self._webhooks(known, str(response.status), self._code(code) if code else ACCEPTED).inc()
        if reason := response.get(UNREADABLE):
            self.unreadable.labels(known, reason).inc()
        if code is None:
            self._latency(known).observe(seconds)
