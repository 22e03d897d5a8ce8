"""The spans. Imported only where tracing is on.

A webhook's own ``traceparent`` is ignored: its sender must not choose what is sampled, nor join the traces of others.
Exceptions are never recorded, because their messages may quote a payload.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fhirline.streams.kafka.headers import Headers, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord

TRACEPARENT = "traceparent"
WEBHOOKS = "/webhooks/"
_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Creates spans and sends them from a thread. Spans that cannot be sent are dropped; nothing waits for them."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        own = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: f"fhirline-{service}"}
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("fhirline")

    def stop(self) -> None:
        """Send the remaining spans, within the exporter's timeout."""
        self._provider.shutdown()

    @property
    def middleware(self) -> Middleware:
        """Make a middleware that records one span per webhook."""

        @web.middleware
        async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            if resource is None or not resource.canonical.startswith(WEBHOOKS):
                return await handler(request)
            named = {"http.request.method": request.method, "http.route": resource.canonical}
            with self._current(f"{request.method} {resource.canonical}", SpanKind.SERVER, Context(), named) as span:
                response = await handler(request)
                span.set_attribute("http.response.status_code", response.status)
                if response.status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                return response

        return traced

    @contextmanager
    def sending(self, record: ProducerRecord) -> Iterator[ProducerRecord]:
        """Open a span below the current one; yield the record with its ``traceparent``."""
        named = {**_kafka(record.topic, "send"), "fhirline.event_key": record.event_key}
        with self._current(f"send {record.topic}", SpanKind.PRODUCER, None, named) as span:
            yield replace(record, headers=with_traceparent(record.headers, span))

    @contextmanager
    def event(self, raw: ConsumerRecord, operation: str) -> Iterator[None]:
        """Open a span for the processing of a raw record, in the trace that its header names."""
        with self._current(f"{operation} {raw.topic}", SpanKind.CONSUMER, _trace_of(raw), _position(raw)):
            yield

    def batch(self, topic: str, events: int) -> "BatchSpans":
        named = {**_kafka(topic, "process"), "messaging.batch.message_count": events}
        return BatchSpans(self, self.start(f"batch {topic}", SpanKind.INTERNAL, Context(), named))

    def start(
        self, name: str, kind: SpanKind, context: Context, attributes: dict[str, Any], links: Sequence[Link] = ()
    ) -> Span:
        return self._tracer.start_span(name, context, kind, attributes, links)

    @contextmanager
    def _current(
        self, name: str, kind: SpanKind, context: Context | None, attributes: dict[str, Any]
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, context, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise


class BatchSpans:
    """The spans of a worker's batch: one of the batch, and one in each event's trace, linked to it."""

    def __init__(self, of: Tracing, batch: Span) -> None:
        self._of = of
        self._batch = batch
        self._link = [Link(batch.get_span_context())]
        self._events: list[Span] = []

    def begin(self, raw: ConsumerRecord) -> Span:
        """Begin the span of an event: from its mapping to the acknowledgement of all that follows."""
        span = self._of.start(f"process {raw.topic}", SpanKind.CONSUMER, _trace_of(raw), _position(raw), self._link)
        self._events.append(span)
        return span

    def mapped(
        self, span: Span, records: Sequence[ProducerRecord], event_type: str | None, error: str | None
    ) -> tuple[ProducerRecord, ...]:
        """Record the result of an event's mapping, and return its records with the span's ``traceparent``."""
        if event_type is not None:
            span.set_attribute("fhirline.event_type", event_type)
        if records and records[0].event_key:
            span.set_attribute("fhirline.event_key", records[0].event_key)
        span.add_event("mapped", {"fhirline.records": len(records)})
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        return tuple(replace(record, headers=with_traceparent(record.headers, span)) for record in records)

    def end(self) -> None:
        """End all spans, once the batch is acknowledged."""
        for span in (*self._events, self._batch):
            span.end()


def with_traceparent(headers: Headers, span: Span) -> Headers:
    """Add a span's ``traceparent`` to headers; with OTEL_SDK_DISABLED there is none to add."""
    fields: dict[str, str] = {}
    _W3C.inject(fields, set_span_in_context(span))
    own = [(name, held) for name, held in headers if name != TRACEPARENT]
    return [*own, (TRACEPARENT, fields[TRACEPARENT].encode())] if fields else own


def _trace_of(raw: ConsumerRecord) -> Context:
    """Return the trace that a record's header names; a new one where the header is missing or invalid."""
    sent = header(raw.headers, TRACEPARENT)
    return _W3C.extract({TRACEPARENT: sent}, Context()) if sent else Context()


def _kafka(topic: str, operation: str) -> dict[str, Any]:
    """Return attributes by OpenTelemetry's semantic conventions for messaging."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.name": operation,
    }


def _position(raw: ConsumerRecord) -> dict[str, Any]:
    return {
        **_kafka(raw.topic, "process"),
        "messaging.destination.partition.id": str(raw.partition),
        "messaging.kafka.offset": raw.offset,
        "fhirline.vendor": raw.vendor,
    }
