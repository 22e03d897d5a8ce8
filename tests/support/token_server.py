"""An OAuth 2 token endpoint on this machine: client credentials in, unsigned JWTs out, which Kafka's tests accept."""

import json
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote


class TokenServer:
    """``clients``: id → secret; a token's subject is the client's id. ``life``: seconds. ``down``: answers 503.

    ``asked`` counts the tokens given; ``scopes`` are those asked for.
    """

    def __init__(self, clients: dict[str, str], life: float = 600.0) -> None:
        self.clients = clients
        self.life = life
        self.down = False
        self.asked = 0
        self.scopes: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, answer = server.answer(self.headers.get("Authorization", ""), form)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/token"
        self._thread = threading.Thread(target=self._http.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 503, {}
        pair = b64decode(authorization.removeprefix("Basic ")).decode()
        client, secret = (unquote(part) for part in pair.split(":"))
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        if self.clients.get(client) != secret:
            return 401, {"error": "invalid_client", "error_description": f"not {secret}"}
        self.asked += 1
        self.scopes += form.get("scope", [])
        now = time.time()
        claims = {"sub": client, "iat": now, "exp": now + self.life, "jti": self.asked}
        token = f"{encoded({'alg': 'none'})}.{encoded(claims)}."
        return 200, {"access_token": token, "expires_in": self.life, "token_type": "bearer"}


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
