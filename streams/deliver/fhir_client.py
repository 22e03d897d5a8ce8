"""The HTTP client of the FHIR server.

The body of an answer is never logged, nor quoted in an error: it may hold a patient's data. Credentials go to the
configured addresses only: no redirect is followed.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.fhir_servers import GENERIC, fhir_servers
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.deliver.answers import without_access
from fhirline.streams.deliver.auth import Authorization
from fhirline.streams.http.retry_after import seconds_until
from fhirline.streams.http.tokens import Headers, TokenRefused

FHIR_JSON = "application/fhir+json"
FRESH = {"Cache-Control": "no-cache"}
"""Without this header, a HAPI server answers a search from its cache for a minute by default."""
ANSWER_BYTES = 33_554_432
ANSWER_VALUES = 2_000_000
"""Most values in an answer. One may have two bytes in the answer, and takes a hundred times as many when parsed."""

LONGEST_PAUSE = 3_600.0
"""Seconds of the longest pause that a server may ask for. A ``Retry-After`` of years would stop everything."""


class ServerUnavailable(FhirlineError):
    """The server gave no answer: nobody knows what it stored. The message is a stable code."""


class AccessRefused(ConfigurationError):
    """The server refuses our credentials (401 with a new token too), or what they may do (403)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. ``body``: its JSON, None where it is none. ``retry_after``: at most `LONGEST_PAUSE`."""

    status: int
    body: Any
    retry_after: float | None
    seconds: float


class FhirServer:
    """Sends requests to one FHIR server; use as an async context manager."""

    def __init__(self, settings: Settings, authorization: Authorization) -> None:
        if settings.fhir_server is None:
            raise ConfigurationError(f"{PREFIX}FHIR_SERVER is not set: the base URL of the FHIR server (or --server)")
        self.base = settings.fhir_server
        self.profile = fhir_servers().profiles[GENERIC]
        """The capabilities of the server, once its CapabilityStatement was read."""
        self._authorization = authorization
        self._timeout = aiohttp.ClientTimeout(total=settings.deliver_timeout, connect=settings.deliver_timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls_context(settings)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
        )

    async def __aenter__(self) -> "FhirServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def transaction(self, body: bytes) -> Answer:
        """Send a transaction Bundle. Raises ServerUnavailable or AccessRefused."""
        return await self.request("POST", "", body)

    async def request(
        self, method: str, path: str = "", body: bytes | None = None, *, forbidden_ends: bool = True
    ) -> Answer:
        """Send a request to ``base/path``. Raises ServerUnavailable, or AccessRefused (403: if ``forbidden_ends``).

        A request that is refused with 401, or an entry of it, is repeated once with a new token.
        """
        headers = await self._credentials()
        assert headers is not None
        answer = await self._send(method, path, body, headers)
        refused = without_access(answer.status, answer.body)
        if refused == 401:
            renewed = await self._credentials(refused=headers)
            if renewed is not None:
                answer = await self._send(method, path, body, renewed)
                refused = without_access(answer.status, answer.body)
        if refused == 401:
            raise AccessRefused(
                f"{self.base} refuses the credentials (401): check {PREFIX}FHIR_AUTH (docs/delivery.md)"
            )
        if refused == 403 and forbidden_ends:
            raise AccessRefused(
                f"{self.base} forbids this client what it needs (403): give it create, update and delete of all types "
                "that fhirline makes, and transactions (docs/delivery.md)"
            )
        return answer

    async def _credentials(self, refused: Headers | None = None) -> Headers | None:
        """Return the header of the next request, or another one than was refused; None where there is none."""
        try:
            if refused is None:
                return await self._authorization.headers()
            return await self._authorization.renewed(refused)
        except TokenRefused as error:
            if error.temporary:
                raise ServerUnavailable("no-token") from None
            raise AccessRefused(f"no token for {self.base}: {error} (docs/delivery.md)") from None

    async def _send(self, method: str, path: str, body: bytes | None, authorization: Headers) -> Answer:
        headers = {"Accept": FHIR_JSON, "Prefer": "return=minimal", **FRESH, **self.profile.headers, **authorization}
        if body is not None:
            headers["Content-Type"] = f"{FHIR_JSON}; charset=utf-8"
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._session.request(
                method, f"{self.base}/{path}".rstrip("/"), data=body, headers=headers, allow_redirects=False
            ) as response:
                content = await _read(response)
        except TimeoutError:
            raise ServerUnavailable("timeout") from None
        except aiohttp.ClientSSLError:
            raise ServerUnavailable("tls") from None
        except aiohttp.ClientConnectorError:
            raise ServerUnavailable("unreachable") from None
        except (aiohttp.ClientError, OSError):
            raise ServerUnavailable("connection-lost") from None
        retry_after = seconds_until(response.headers.get("Retry-After"))
        pause = None if retry_after is None else min(retry_after, LONGEST_PAUSE)
        return Answer(response.status, _json(content), pause, loop.time() - began)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_BYTES:
            raise ServerUnavailable("answer-too-large")
    return bytes(content)


def _json(content: bytes) -> Any:
    if sum(map(content.count, (b"[", b"{", b","))) > ANSWER_VALUES:
        raise ServerUnavailable("answer-too-large")
    try:
        return orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        return None


def tls_context(settings: Settings) -> ssl.SSLContext | bool:
    """Build the TLS context of the server; True for the system's certificates. Raises ConfigurationError."""
    if settings.fhir_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.fhir_ca_file)
    except OSError as error:
        raise ConfigurationError(f"{PREFIX}FHIR_CA_FILE: {error.strerror or 'no PEM certificates'}") from None
