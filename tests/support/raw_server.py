"""An HTTP server that answers with bytes as they are given, right or wrong, on a free port of this machine."""

import json
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.local_server import LocalServer

Answer = bytes | Iterable[bytes]
"""Bytes of an answer, its status line included; or parts, between which the server does whatever their maker does."""


@dataclass(frozen=True)
class Request:
    """One request. ``headers`` by their names in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class RawServer(LocalServer):
    """Sends what ``answer`` returns for a request, then closes the connection."""

    def __init__(
        self, answer: Callable[[Request], Answer], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        outer = self
        self.requests: list[Request] = []

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                outer.requests.append(request)
                self.close_connection = True
                answer = outer._answer(request)
                try:
                    for part in [answer] if isinstance(answer, bytes) else answer:
                        self.wfile.write(part)
                except OSError:
                    pass  # the client has had enough

            do_GET = do_POST = do_PUT = do_DELETE = _answer

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: Any) -> None:
                pass  # such as a client that ends the TLS handshake

        self._answer = answer
        super().__init__(Server((host, 0), Handler))
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        shown = f"[{host}]" if ":" in host else host
        self.base = f"{'http' if tls is None else 'https'}://{shown}:{self.http.server_port}/fhir"


def answered(body: Any, *headers: str, status: str = "200 OK") -> bytes:
    """Write an answer. ``body``: bytes, or a value to be sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def statement(**more: Any) -> bytes:
    """Answer with the CapabilityStatement of a FHIR R4 server."""
    return answered({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", **more})


def stored(request: Request, **more: str) -> bytes:
    """Answer a transaction: each entry was stored. ``more``: of each entry's response."""
    sent = json.loads(request.body)["entry"]
    results = [{"response": {"status": "201 Created", **more}} for _ in sent]
    return answered({"resourceType": "Bundle", "type": "transaction-response", "entry": results})


def keys_of(request: Request) -> set[str]:
    """Return what a transaction stores or deletes, as ``Type/id``."""
    return {entry["request"]["url"] for entry in json.loads(request.body)["entry"]}
