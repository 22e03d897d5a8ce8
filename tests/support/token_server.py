"""An OAuth 2 token endpoint on this machine: client credentials in, unsigned JWTs out, which Kafka's tests accept.

It authenticates clients by secret in the header or the form, and by assertions signed with RS384 or ES384. Signatures
are verified here with the primitives of `cryptography`, not by the library that the code under test signs with.
"""

import json
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from tests.support.local_server import LocalServer

PublicKey = RSAPublicKey | EllipticCurvePublicKey

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 300
"""Seconds that SMART lets an assertion live."""


class TokenServer(LocalServer):
    """``clients``: id → secret; a token's subject is the client's id. ``keys``: ``kid`` → public key, of any client.

    ``life``: seconds that a token lives; ``uses``: requests after which `accepts` refuses it all the same, however long
    its life. ``down``: answers 503; ``refusing``: answers 401 ``invalid_client``. ``asked`` counts the tokens
    given; ``scopes`` are those asked for; ``ways`` how the clients authenticated.
    """

    def __init__(
        self,
        clients: dict[str, str],
        life: float = 600.0,
        keys: Mapping[str, PublicKey] | None = None,
        uses: int | None = None,
    ) -> None:
        self.clients = clients
        self.keys = dict(keys or {})
        self.life = life
        self.uses = uses
        self.down = self.refusing = False
        self.asked = 0
        self.scopes: list[str] = []
        self.ways: set[str] = set()
        self._lives: dict[str, tuple[float, int | None]] = {}
        self._jtis: set[str] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._send(*server.answer(self.headers.get("Authorization", ""), form))

            def do_GET(self) -> None:
                self._send(200, {"token_endpoint": server.url})

            def _send(self, status: int, answer: dict[str, Any]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://127.0.0.1:{self.http.server_port}/token"

    def accepts(self, authorization: str) -> bool:
        """Tell whether a header ``Authorization`` has a token of this server that lives, and count the use."""
        token = authorization.removeprefix("Bearer ")
        until, uses = self._lives.get(token, (0.0, 0))
        if uses is not None:
            self._lives[token] = (until, uses - 1)
        return time.monotonic() < until and (uses is None or uses > 0)

    def revoke(self) -> None:
        """Let all tokens end now."""
        self._lives.clear()

    def answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 503, {}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        client = None if self.refusing else self._client(authorization, form)
        if client is None:
            return 401, {"error": "invalid_client", "error_description": f"not {form} {authorization}"}
        self.asked += 1
        self.scopes += form.get("scope", [])
        now = time.time()
        claims = {"sub": client, "iat": now, "exp": now + self.life, "jti": self.asked}
        token = f"{encoded({'alg': 'none'})}.{encoded(claims)}."
        self._lives[token] = (time.monotonic() + self.life, self.uses)
        return 200, {"access_token": token, "expires_in": self.life, "token_type": "bearer"}

    def _client(self, authorization: str, form: dict[str, list[str]]) -> str | None:
        """Return the client that a request authenticates by one way only; None where it does not."""
        if "client_assertion" in form:
            self.ways.add("private_key_jwt")
            typed = form.get("client_assertion_type") == [ASSERTION] and not authorization
            return self._asserted(form["client_assertion"][0]) if typed else None
        if "client_secret" in form:
            self.ways.add("client_secret_post")
            client, secret = form["client_id"][0], form["client_secret"][0]
            return client if not authorization and self.clients.get(client) == secret else None
        self.ways.add("client_secret_basic")
        pair = b64decode(authorization.removeprefix("Basic ")).decode()
        client, secret = (unquote(part) for part in pair.split(":"))
        return client if self.clients.get(client) == secret else None

    def _asserted(self, assertion: str) -> str | None:
        """Return the client of a signed assertion as SMART backend services define it."""
        head, body, signature = assertion.split(".")
        header, claims = json.loads(decoded(head)), json.loads(decoded(body))
        key = self.keys.get(header["kid"])
        if key is None or header["alg"] != ("RS384" if isinstance(key, RSAPublicKey) else "ES384"):
            return None
        try:
            verify(key, decoded(signature), f"{head}.{body}".encode())
        except InvalidSignature:
            return None
        lives = time.time() < claims["exp"] <= time.time() + LONGEST
        new, client = claims["jti"] not in self._jtis, claims["sub"]
        self._jtis.add(claims["jti"])
        meant = claims["aud"] == self.url and claims["iss"] == client
        return client if lives and new and meant and client in self.clients else None


def verify(key: PublicKey, signature: bytes, signed: bytes) -> None:
    if isinstance(key, RSAPublicKey):
        key.verify(signature, signed, PKCS1v15(), SHA384())
    else:
        r, s = (int.from_bytes(half, "big") for half in (signature[:48], signature[48:]))
        key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA384()))


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
