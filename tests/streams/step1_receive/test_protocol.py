"""The edge of the gateway: slashes, long heads, invalid HTTP, and what answers and logs must not contain."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.messages import text_headers
from tests.support.receiving import (
    HEADER,
    SECRETS,
    SURVEY,
    GatewayProcess,
    record_of,
    running_gateway,
)
from tests.support.waiting import LIMIT

MARKER = "Zaphod-Beeblebrox"
CREDENTIAL = f"{HEADER['infermedica']}: {SECRETS['infermedica']}\r\n"


@pytest.fixture(scope="module")
def gateway(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(
        broker.bootstrap, tmp_path_factory.mktemp("edge"), FHIRLINE_LOG_LEVEL="debug", FHIRLINE_METRICS_PORT="0"
    ) as running:
        yield running


def answered(gateway: GatewayProcess, request: str) -> tuple[int, bytes, bytes]:
    """Send bytes, and return status, head and body of the answer, up to the connection's end."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as connection:
        connection.sendall(request.encode("latin-1"))
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


@pytest.mark.parametrize(
    ("path", "vendor", "tenant", "event"),
    [
        ("/webhooks/mediquo/", "mediquo", "default", None),
        ("/webhooks/mediquo/acme/", "mediquo", "acme", None),
        ("/webhooks/azodha/BookAppointment/", "azodha", "default", "BookAppointment"),
        ("/webhooks/azodha/acme/", "azodha", "acme", None),
        ("/webhooks/azodha/acme/BookAppointment/", "azodha", "acme", "BookAppointment"),
    ],
)
def test_a_slash_at_the_end_is_the_same_route(
    gateway: GatewayProcess, broker: EmbeddedBroker, path: str, vendor: str, tenant: str, event: str | None
) -> None:
    body = {"path": path.rstrip("/")}
    slashed, plain = gateway.post(path, body), gateway.post(path.rstrip("/"), {**body, "plain": True})
    assert (slashed.status, plain.status) == (202, 202)
    headers = text_headers(record_of(broker.bootstrap, vendor, slashed.json["event_key"]))
    assert (headers["tenant"], headers.get("event-type")) == (tenant, event)
    assert route_of(gateway, slashed.json["event_key"]) == route_of(gateway, plain.json["event_key"])


def route_of(gateway: GatewayProcess, event_key: str) -> str:
    return str(gateway.line(lambda line: line.get("event_key") == event_key)["route"])


def test_health_and_readiness_with_a_slash(gateway: GatewayProcess) -> None:
    assert gateway.request("GET", "/healthz/").json == {"status": "ok"}
    assert gateway.request("GET", "/readyz/").json == {"status": "ready"}
    assert gateway.request("GET", "/webhooks/mediquo/").refused == (405, "method-not-allowed")


def test_metrics_have_a_port_of_their_own(gateway: GatewayProcess, broker: EmbeddedBroker, tmp_path: Path) -> None:
    assert gateway.request("GET", "/metrics").refused == (404, "not-found")
    assert "fhirline_webhooks_total" in gateway.metrics
    with running_gateway(broker.bootstrap, tmp_path) as without:
        assert without.request("GET", "/metrics").refused == (404, "not-found")
        assert without.request("GET", "/healthz").status == 200
        assert "metrics listening" not in without.logged


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (f"POST /webhooks/infermedica HTTP/1.1\r\nX-Long: {MARKER * 1000}\r\n", 431, "headers-too-large"),
        (f"POST /webhooks/infermedica HTTP/1.1\r\n{MARKER * 1000}: x\r\n", 431, "headers-too-large"),
        (
            "POST /webhooks/infermedica HTTP/1.1\r\n" + "".join(f"X-{n}: {MARKER}\r\n" for n in range(200)),
            431,
            "headers-too-large",
        ),
        (f"POST /webhooks/{MARKER * 1000} HTTP/1.1\r\n", 414, "uri-too-long"),
        (f"POST /webhooks/infermedica HTTP/1.1\r\nExpect: {MARKER}\r\n", 417, "expectation-failed"),
        (f"POST /{MARKER} HTTP/1.1\r\nExpect: {MARKER}\r\n", 417, "expectation-failed"),
        (f"{MARKER} /webhooks/infermedica HTTP/1.1\r\n", 400, "bad-request"),
        (f"POST /webhooks/infermedica {MARKER}\r\n", 400, "bad-request"),
        (f"POST /webhooks/infermedica HTTP/1.1\r\n{MARKER}\r\n", 400, "bad-request"),
        (f"POST /webhooks/infermedica HTTP/1.1\r\nContent-Length: {MARKER}\r\n", 400, "bad-request"),
        (f"\x16\x03\x01{MARKER}", 400, "bad-request"),
    ],
    ids=lambda item: str(item)[:40] if isinstance(item, str) else str(item),
)
def test_what_is_no_request_is_refused_as_json_and_not_quoted(
    gateway: GatewayProcess, head: str, status: int, code: str
) -> None:
    found, sent, body = answered(gateway, f"{head}Host: x\r\n{CREDENTIAL}Content-Length: 2\r\n\r\n{{}}")
    refusal = orjson.loads(body)
    assert (found, refusal["error"]) == (status, code)
    assert refusal["detail"]
    assert b"application/json" in sent
    assert MARKER.encode() not in sent + body
    gateway.line(lambda line: line["event"] == "invalid http" and line.get("status") == status)
    assert MARKER not in gateway.logged


def test_100_continue_is_met(gateway: GatewayProcess) -> None:
    head = f"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\n{CREDENTIAL}Expect: 100-continue\r\n"
    status, _, rest = answered(gateway, f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}")
    assert status == 100
    assert rest.startswith(b"HTTP/1.1 202")


def test_no_answer_names_versions(gateway: GatewayProcess) -> None:
    metrics = int(gateway.event("metrics listening")["url"].removesuffix("/metrics").rpartition(":")[2])
    sent = [answered(gateway, "NONSENSE\r\n\r\n")[1].decode("latin-1").lower()]
    for port, method, path in (
        (gateway.port, "GET", "/healthz"),
        (gateway.port, "POST", "/webhooks/nobody"),
        (gateway.port, "DELETE", "/healthz"),
        (metrics, "GET", "/metrics"),
        (metrics, "GET", "/nothing"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            sent.append("\n".join(f"{name}: {value}" for name, value in response.getheaders()).lower())
        finally:
            connection.close()
    for head in sent:
        assert "server: fhirline" in head
        assert "aiohttp" not in head
        assert "python" not in head


def test_no_line_has_an_earlier_requests_event_key(gateway: GatewayProcess) -> None:
    """On a connection that is used again, and where its end is no valid HTTP."""
    body = orjson.dumps({**SURVEY, "kept": "alive"})
    head = f"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\n{CREDENTIAL}Content-Length: {len(body)}\r\n\r\n"
    invalid = "POST /webhooks/infermedica HTTP/1.1\r\nno colon here\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as connection:
        for sent in (head + body.decode(), head + body.decode(), invalid):
            connection.sendall(sent.encode())
            answer = b""
            while b"}" not in answer:  # each answer is JSON without nesting
                answer += connection.recv(4096)
            assert int(answer.split()[1]) == (400 if sent is invalid else 202), answer
    gateway.line(lambda line: line["event"] == "invalid http")
    others = [orjson.loads(line) for line in gateway.logged.splitlines() if '"event":"request"' not in line]
    assert [line for line in others if {"event_key", "vendor", "route"} & line.keys()] == []
