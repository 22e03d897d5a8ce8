"""Senders that misbehave: parts of requests, and what is no HTTP."""

import socket

import orjson
import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.streams.step1_receive.gateway.connections import CREDENTIAL, MARKER, MAX_BODY, raw, status_of
from tests.support.receiving import GatewayProcess, stored
from tests.support.waiting import LIMIT


def test_a_body_that_does_not_arrive(hasty: GatewayProcess) -> None:
    with raw(hasty, "/webhooks/infermedica", CREDENTIAL + "Content-Length: 100\r\n") as connection:
        connection.sendall(b'{"event_type":')
        assert status_of(connection) == 408


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_arrive(hasty: GatewayProcess, sent: bytes) -> None:
    """The connection is closed although bytes trickle in. Otherwise a few thousand would use up all descriptors."""
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=LIMIT) as connection:
        connection.sendall(sent)
        connection.settimeout(0.1)
        closed = False
        while not closed:
            try:
                closed = connection.recv(1) == b""
            except TimeoutError:
                if sent:
                    connection.sendall(b"x")
            except ConnectionError:
                closed = True
    assert hasty.event("invalid http")["error"] == "no head in time"


def test_the_body_is_not_read_without_a_credential(gateway: GatewayProcess) -> None:
    """A static credential is in the head, so that a request without one is refused before its body is read."""
    with raw(gateway, "/webhooks/infermedica", f"Content-Length: {MAX_BODY}\r\n") as connection:
        assert status_of(connection) == 401


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_sender_that_disconnects_stores_nothing(
    gateway: GatewayProcess, broker: EmbeddedBroker, framing: str
) -> None:
    """A part of a body is never stored as the whole, even where it is JSON."""
    before = len(stored(broker.bootstrap, "infermedica"))
    gone = gateway.logged.count('"client-gone"')
    with raw(gateway, "/webhooks/infermedica", CREDENTIAL + framing) as connection:
        connection.sendall(b"{}" if "Length" in framing else b"2\r\n{}\r\n")
    gateway.line(lambda line: line.get("error") == "client-gone" and gateway_count(gateway) > gone)
    assert len(stored(broker.bootstrap, "infermedica")) == before


def gateway_count(gateway: GatewayProcess) -> int:
    return gateway.logged.count('"client-gone"')


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Transfer-Encoding: chunked\r\n", f"{MARKER}\r\n{{}}\r\n0\r\n\r\n"),
        (f"{MARKER} and no colon\r\n", "{}"),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        (f"Content-Length: {MARKER}\r\n", "{}"),
    ],
)
def test_invalid_http(gateway: GatewayProcess, headers: str, body: str) -> None:
    """It is refused as JSON, and not quoted."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as connection:
        head = f"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\n{CREDENTIAL}{headers}\r\n"
        connection.sendall((head + body).encode())
        with connection.makefile("rb") as stream:
            answer = stream.read()
    assert answer.split()[1] == b"400"
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "bad-request"
    assert MARKER.encode() not in answer
    assert MARKER not in gateway.logged
