"""Tokens for SASL/OAUTHBEARER: the OAuth 2 client credentials grant (RFC 6749, section 4.4), for all three clients.

A process has one `TokenSource`, which renews its token before it expires. librdkafka asks for a token after four fifths
of the last one's lifetime; kafka-python and aiokafka ask at each connection.
"""

import asyncio
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import structlog
from aiokafka.abc import AbstractTokenProvider as AiokafkaProvider  # has no types
from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonProvider

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings

log = structlog.get_logger("oauth")

TIMEOUT = 10.0
RENEW_AFTER = 0.75
"""Share of a token's lifetime after which the next is fetched: before librdkafka asks, at four fifths."""

LARGEST_ANSWER = 1_048_576
DEFAULT_LIFETIME = 300.0
"""Seconds, for an answer without ``expires_in`` (RFC 6749 only recommends it)."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class TokenRefused(FhirlineError):
    """The token endpoint gave no token. The message names the endpoint and the reason, and quotes neither side."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the client's secret is sent to the configured endpoint only."""

    def redirect_request(self, *_: Any) -> None:
        return None


class TokenSource:
    """Fetches and keeps the token of one client. Thread-safe."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: Callable[[], str],
        scope: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)
        self._lock = threading.Lock()
        self._token = ""
        self._expires_at = 0.0
        self._renew_at = 0.0

    def token(self) -> tuple[str, float]:
        """Return a token and its time of expiry (UNIX seconds). Blocking. Raises TokenRefused.

        Where a renewal fails, the current token is returned until it expires.
        """
        with self._lock:
            now = time.time()
            if now >= self._renew_at:
                try:
                    self._token, lifetime = self._fetch()
                    self._expires_at, self._renew_at = now + lifetime, now + lifetime * RENEW_AFTER
                except TokenRefused as error:
                    log.error("no kafka token", reason=str(error))
                    if now >= self._expires_at:
                        raise
            return self._token, self._expires_at

    def _fetch(self) -> tuple[str, float]:
        """Return a new token and its lifetime in seconds."""
        form = {"grant_type": "client_credentials"}
        if self._scope:
            form["scope"] = self._scope
        try:
            pair = f"{quote(self._client_id, safe='')}:{quote(self._client_secret(), safe='')}"
        except ConfigurationError as error:
            raise TokenRefused(str(error)) from None
        request = urllib.request.Request(  # https, or http to this machine: checked by token_source
            self._url,
            urlencode(form).encode(),
            {"Authorization": f"Basic {b64encode(pair.encode()).decode()}", "Accept": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                answer = json.loads(response.read(LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            hint = ": check client id, secret and scope" if error.code in (400, 401, 403) else ""
            raise TokenRefused(f"{self._url} answered {error.code}{hint}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise TokenRefused(f"{self._url}: {reason}") from None
        fields = answer if isinstance(answer, dict) else {}
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise TokenRefused(f"{self._url}: the answer contains no access_token")
        return token, float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else DEFAULT_LIFETIME

    def for_librdkafka(self, _: str) -> tuple[str, float]:
        """Serve as librdkafka's ``oauth_cb``. An exception becomes the client's authentication error."""
        return self.token()


class ForKafkaPython(KafkaPythonProvider):  # type: ignore[misc]  # kafka-python has no types
    """The token provider of kafka-python."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def token(self) -> str:
        return self._source.token()[0]


class ForAiokafka(AiokafkaProvider):  # type: ignore[misc]  # aiokafka has no types
    """The token provider of aiokafka, which Faust passes on. It fetches in a thread, beside the event loop."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        return (await asyncio.to_thread(self._source.token))[0]


@lru_cache(maxsize=8)
def token_source(settings: Settings) -> TokenSource:
    """Return the process's source of tokens. Raises ConfigurationError naming the setting at fault."""
    url, client_id = settings.sasl_oauth_token_url, settings.sasl_oauth_client_id
    has_secret = settings.sasl_oauth_client_secret or settings.sasl_oauth_client_secret_file
    for name, value in (("TOKEN_URL", url), ("CLIENT_ID", client_id), ("CLIENT_SECRET (or _FILE)", has_secret)):
        if not value:
            raise ConfigurationError(f"{PREFIX}SASL_OAUTH_{name} is not set: OAUTHBEARER needs it")
    assert url is not None
    assert client_id is not None
    parts = urlsplit(url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)) or parts.username:
        raise ConfigurationError(f"{PREFIX}SASL_OAUTH_TOKEN_URL: must be https://..., the client secret is sent there")
    context = None
    if parts.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=settings.sasl_oauth_ca_file)
        except OSError as error:
            raise ConfigurationError(f"{PREFIX}SASL_OAUTH_CA_FILE: {error.strerror or error}") from None
    secret(settings, "sasl_oauth_client_secret")  # raises now where its file cannot be read

    def client_secret() -> str:
        return secret(settings, "sasl_oauth_client_secret") or ""

    return TokenSource(url, client_id, client_secret, settings.sasl_oauth_scope, context)
