"""OAuth 2 access tokens by client credentials (RFC 6749, section 4.4): for Kafka's clients and for the FHIR server.

The invariant: **a client's secret and its assertions go to the configured token endpoint only**, over TLS or to this
machine, and no error or log line quotes a secret, a token, or an answer's text.
"""

import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import structlog

from fhirline.config.errors import ConfigurationError, FhirlineError

log = structlog.get_logger("oauth")

TIMEOUT = 10.0
RENEW_AFTER = 0.75
"""Share of a token's lifetime after which the next is fetched: before librdkafka asks, at four fifths."""

LARGEST_ANSWER = 1_048_576
DEFAULT_LIFETIME = 300.0
"""Seconds, for an answer without ``expires_in`` (RFC 6749 only recommends it), or with one that is no lifetime."""
LONGEST_LIFETIME = 2_592_000.0
"""Seconds, 30 days: no token is believed to live longer. Kafka's client takes no greater number of any size."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
TEMPORARY = frozenset({408, 425, 429})
"""Statuses below 500 that say nothing of the credentials."""

ERRORS = frozenset(
    {"invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "unauthorized_client"}
    | {"unsupported_grant_type"}
)
"""Error codes of RFC 6749, section 5.2: all that is shown of an answer's content."""

Headers = dict[str, str]
Form = dict[str, str]


class TokenRefused(FhirlineError):
    """The token endpoint gave no token. The message names the endpoint and the reason, and quotes neither side.

    ``temporary``: the endpoint did not answer, or asked for a pause; else it refused the client or its request.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


Authenticate = Callable[[str, Form], Headers]
"""Called with the endpoint and the form of a token request: adds to the form, and returns the headers to send."""


def secret_in_header(client_id: str, client_secret: Callable[[], str]) -> Authenticate:
    """Authenticate by ``client_secret_basic``. The secret is asked for at each request: its file may have changed."""

    def authenticate(_: str, form: Form) -> Headers:
        pair = f"{quote(client_id, safe='')}:{quote(client_secret(), safe='')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    return authenticate


def secret_in_form(client_id: str, client_secret: Callable[[], str]) -> Authenticate:
    """Authenticate by ``client_secret_post``."""

    def authenticate(_: str, form: Form) -> Headers:
        form.update(client_id=client_id, client_secret=client_secret())
        return {}

    return authenticate


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: what authenticates the client is sent to the configured endpoint only."""

    def redirect_request(self, *_: Any) -> None:
        return None


class TokenSource:
    """Fetches and keeps the token of one client. Thread-safe. ``url`` is asked for at each fetch."""

    def __init__(
        self,
        url: str | Callable[[], str],
        authenticate: Authenticate,
        scope: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._authenticate = authenticate
        self._scope = scope
        self._opener = opener(context)
        self._lock = threading.Lock()
        self._token = ""
        self._expires_at = 0.0
        self._renew_at = 0.0

    def token(self, refused: str | None = None) -> tuple[str, float]:
        """Return a token and its time of expiry (UNIX seconds). Blocking. Raises TokenRefused.

        Where a renewal fails, the current token is returned until it expires, unless it is the one that was
        ``refused`` by whom it was shown.
        """
        with self._lock:
            now = time.time()
            unusable = now >= self._expires_at or self._token == refused
            if unusable or now >= self._renew_at:
                try:
                    self._token, lifetime = self._fetch()
                    self._expires_at, self._renew_at = now + lifetime, now + lifetime * RENEW_AFTER
                except TokenRefused as error:
                    log.error("no token", reason=str(error))
                    if unusable:
                        raise
            return self._token, self._expires_at

    def held(self) -> str | None:
        """Return the current token without blocking; None where it is to be renewed."""
        token, renew_at = self._token, self._renew_at
        return token if time.time() < renew_at else None

    def _fetch(self) -> tuple[str, float]:
        """Return a new token and its lifetime in seconds."""
        form = {"grant_type": "client_credentials"}
        if self._scope:
            form["scope"] = self._scope
        try:
            url = self._url() if callable(self._url) else self._url
            headers = self._authenticate(url, form)
        except ConfigurationError as error:
            raise TokenRefused(str(error)) from None
        fields = _json(self._opener, url, urlencode(form).encode(), headers)
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
            raise TokenRefused(f"{url}: the answer contains no access_token")
        return token, _lifetime(lifetime)


def opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Build what sends requests: without redirects, and with certificates of the context."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def token_endpoint(configuration: str, context: ssl.SSLContext | None = None) -> str:
    """Return the ``token_endpoint`` of a ``.well-known/smart-configuration``. Blocking. Raises TokenRefused."""
    found = _json(opener(context), configuration, None, {}).get("token_endpoint")
    if not isinstance(found, str) or not confidential(found):
        raise TokenRefused(f"{configuration} names no token_endpoint at https://")
    return found


def confidential(url: str) -> bool:
    """Tell whether secrets may be sent to a URL: https, or http to this machine, and no password inside."""
    try:
        parts = urlsplit(url)
        loopback = parts.scheme == "http" and parts.hostname in LOOPBACK
        return (loopback or (parts.scheme == "https" and bool(parts.hostname))) and not parts.username
    except ValueError:
        return False


def context_of(setting: str, ca_file: Path | None) -> ssl.SSLContext:
    """Build the TLS context of an endpoint. ``setting``: the one that names the file. Raises ConfigurationError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"{setting}: {error.strerror or error}") from None


def _lifetime(expires_in: Any) -> float:
    """Read ``expires_in``: a number, or as Azure's older endpoints write it, text."""
    if isinstance(expires_in, str) and re.fullmatch(r"[0-9]{1,15}", expires_in):
        expires_in = int(expires_in)
    known = isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0
    return float(min(expires_in, LONGEST_LIFETIME)) if known else DEFAULT_LIFETIME


def _json(sender: urllib.request.OpenerDirector, url: str, body: bytes | None, headers: Headers) -> Mapping[str, Any]:
    """Send a request and return the answer's JSON object, empty where it is another value. Raises TokenRefused."""
    request = urllib.request.Request(url, body, {**headers, "Accept": "application/json"})
    try:
        with sender.open(request, timeout=TIMEOUT) as response:
            answer = json.loads(_read(response))
    except urllib.error.HTTPError as error:
        hint = ": check client id, secret or key, and scope" if error.code in (400, 401, 403) else ""
        reason = f" {code}" if (code := _error_code(error)) else ""
        temporary = error.code >= 500 or error.code in TEMPORARY
        raise TokenRefused(f"{url} answered {error.code}{reason}{hint}", temporary=temporary) from None
    except (OSError, ValueError, HTTPException, RecursionError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise TokenRefused(f"{url}: {reason}", temporary=True) from None
    return answer if isinstance(answer, dict) else {}


def _read(answer: HTTPResponse | urllib.error.HTTPError) -> bytes:
    """Read an answer's body, up to a size. Raises TimeoutError where it comes too slowly."""
    read, until = bytearray(), monotonic() + TIMEOUT
    while len(read) < LARGEST_ANSWER and (part := answer.read1(LARGEST_ANSWER)):
        read += part
        if monotonic() > until:
            raise TimeoutError
    return bytes(read)


def _error_code(answer: urllib.error.HTTPError) -> str | None:
    """Return the answer's ``error`` where it is one of the RFC's words."""
    try:
        code = json.loads(_read(answer)).get("error")
    except (OSError, ValueError, AttributeError, HTTPException, RecursionError):
        return None
    return code if isinstance(code, str) and code in ERRORS else None
