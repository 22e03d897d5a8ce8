"""Traces: one id from a webhook to the canonical records; without an endpoint, no trace at all."""

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.tracing import tracing
from fhirline.streams.observe.tracing.spans import _trace_of
from tests.support.cases import cases
from tests.support.local_server import LocalServer
from tests.support.messages import header_of
from tests.support.receiving import record_of
from tests.support.waiting import LIMIT
from tests.support.watching import first_record, watched

REPORT = next(case for case in cases() if case.vendor == "altibbi" and case.name == "recommendation")
FOREIGN = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
"""A sender's own trace, which must be ignored."""


class Collector:
    """Collects the spans of the exporters, as (service, span)."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        self.spans: list[tuple[str, Span]] = []
        self.arrived = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.arrived:
            for resource in request.resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self.arrived.notify_all()

    def named(self, prefix: str) -> tuple[str, Span]:
        """Wait for the first span whose name begins so, and return it."""
        with self.arrived:
            end = time.monotonic() + LIMIT
            while not (found := [span for span in self.spans if span[1].name.startswith(prefix)]):
                assert self.arrived.wait(end - time.monotonic()), [span.name for _, span in self.spans]
        return found[0]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server)
    with LocalServer(server):
        yield collector


@pytest.mark.long
def test_one_trace_from_webhook_to_canonical_record(tmp_path: Path) -> None:
    with collecting() as collector:
        own = {"FHIRLINE_TRACING_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with watched(tmp_path, **own) as stack:
            answer = stack.gateway.post("/webhooks/altibbi", REPORT.events[0], traceparent=FOREIGN)
            assert answer.status == 202
            raw = record_of(stack.broker.bootstrap, "altibbi", answer.json["event_key"])
            canonical = first_record(stack.broker.bootstrap, "fhir.r4.CarePlan")
            batch = collector.named("batch raw.altibbi")
            stack.worker.stop()
            stack.gateway.terminate()
            assert (stack.worker.exit_code, stack.gateway.ended()) == (0, 0)
        spans = {span.name: (service, span) for service, span in collector.spans}
    server, webhook = spans["POST /webhooks/{vendor}"]
    sender, sending = spans["send raw.altibbi"]
    worker, processing = spans["process raw.altibbi"]
    assert (server, sender, worker, batch[0]) == ("fhirline-gateway",) * 2 + ("fhirline-worker",) * 2
    assert webhook.trace_id == sending.trace_id == processing.trace_id
    assert (sending.parent_span_id, processing.parent_span_id) == (webhook.span_id, sending.span_id)
    assert not webhook.parent_span_id, "a sender's trace is not ours"
    assert [link.span_id for link in processing.links] == [batch[1].span_id]
    assert carries(raw) == (sending.trace_id.hex(), sending.span_id.hex())
    assert carries(canonical) == (processing.trace_id.hex(), processing.span_id.hex())
    named = {attribute.key: attribute.value.string_value for attribute in processing.attributes}
    assert named["fhirline.event_key"] == answer.json["event_key"]
    assert named["fhirline.event_type"] == "recommendation_data"


def carries(message: Message) -> tuple[str, str]:
    """Return trace and span of a record's ``traceparent``."""
    version, trace, span, flags = (header_of(message, "traceparent") or "").split("-")
    assert (version, int(flags, 16) & 1) == ("00", 1), "sampled"
    return trace, span


@pytest.mark.parametrize("sent", ["", "not one", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 10_000, "ff-1-1-1"])
def test_an_invalid_traceparent_begins_a_trace(sent: str) -> None:
    raw = ConsumerRecord("raw.altibbi", 0, 0, 0, None, None, [("traceparent", sent.encode())])
    assert not _trace_of(raw)


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    wanted = Settings(tracing_endpoint="http://127.0.0.1:4318/v1/traces", _env_file=None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fhirline\[tracing\]'"):
        tracing(wanted, "worker")
    assert tracing(Settings(_env_file=None), "worker") is None
