"""Requests that the gateway of these tests accepts, and connections to it that no HTTP client would open."""

import socket

from tests.support.receiving import HEADER, SECRETS, GatewayProcess
from tests.support.waiting import LIMIT

MAX_BODY = 200_000
MAX_DEPTH = 20
MARKER = "Zaphod-Beeblebrox"
"""In place of a patient's data: must never be logged or answered."""
CREDENTIAL = f"{HEADER['infermedica']}: {SECRETS['infermedica']}\r\n"


def raw(gateway: GatewayProcess, path: str, headers: str) -> socket.socket:
    """Open a connection and send the head of a request."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    with connection.makefile("rb") as stream:
        return int(stream.readline().split()[1])


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"1" + b"]" * (depth - 1) + b"}"
