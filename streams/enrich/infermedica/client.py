"""The HTTP client of one Infermedica instance, with OAuth client credentials.

Two rules hold for every call. The body of an answer is never logged, nor quoted in an error that is logged: it may be a
patient's. The client's secret and its tokens go to the instance only: no redirect is followed.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import orjson
from yarl import URL

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.mappers.pipeline.body import ReadBody, UnreadableBody, read_body, read_json
from fhirline.streams.http.retry_after import seconds_until

TOKEN_PATH = "/api/v2/oauth2/token"
TEMPORARY = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which a retry may succeed. 409: the survey is not completed (vendor-payloads.md §2.2)."""

MARGIN = 60.0
MARGIN_SHARE = 0.1
"""Time before its expiry at which a token is renewed: seconds, or a share of a short lifetime."""
DEFAULT_LIFETIME = 3600.0
"""Seconds (vendor-payloads.md §2.5), for an answer without ``expires_in``."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The URL of an instance and our client there. ``secret`` is called for each token: its file may have changed."""

    url: str
    client_id: str
    secret: Callable[[], str]
    scopes: str | None = None


class CallFailed(FhirlineError):
    """A call failed. ``code`` is stable and safe to log. ``said`` is the instance's own message, never to be logged."""

    def __init__(
        self,
        code: str,
        status: int | None = None,
        *,
        temporary: bool = False,
        retry_after: float | None = None,
        said: str = "",
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.temporary = temporary
        self.retry_after = retry_after
        self.said = said


def new_session() -> aiohttp.ClientSession:
    """Create a session without a limit of connections, which callers have themselves, and without cookies."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


class Client:
    """Calls one instance. Concurrent calls share a token. After a refusal a new token is fetched once.

    A call that is refused with the new token, too, fails as temporary. So do refused client credentials.
    """

    def __init__(self, session: aiohttp.ClientSession, instance: Instance, timeout: float, max_bytes: int) -> None:
        self._session = session
        self._instance = instance
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._max_bytes = max_bytes
        self._token: str | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[str] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call ``path`` (already quoted) and return the parsed answer; None where it is empty. Raises CallFailed."""
        return _parsed(await self._call(method, path, body))

    async def fetch(self, path: str) -> ReadBody:
        """Fetch an object by GET, and read it as a webhook's body (mapping.md §2.5), not redacted. Raises CallFailed.

        The error ``too-deep`` is permanent. Any other unreadable answer may be a proxy's, and is temporary.
        """
        answer = await self._call("GET", path)
        try:
            return read_body(answer.content)
        except UnreadableBody as error:
            raise CallFailed(error.code, answer.status, temporary=error.code != "too-deep") from None

    async def _call(self, method: str, path: str, body: Any = None) -> "_Answer":
        """Call ``path`` with a token, once more with a new one where it was refused. Raises CallFailed."""
        token = await self.token()
        try:
            return await self._send(method, path, f"Bearer {token}", body)
        except CallFailed as failure:
            if failure.status != 401:
                raise
        token = await self.token(refused=token)
        try:
            return await self._send(method, path, f"Bearer {token}", body)
        except CallFailed as failure:
            if failure.status == 401:  # a new token may not be known everywhere yet, or an operator must correct it
                failure.temporary = True
            raise

    async def token(self, refused: str | None = None) -> str:
        """Return the current token, or a new one where it is about to expire or was ``refused``. Raises CallFailed."""
        now = asyncio.get_running_loop().time()
        if self._token is not None and self._token != refused and now < self._renew_at:
            return self._token
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_token())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: those who await the task get it too

    async def _fetch_token(self) -> str:
        instance = self._instance
        grant = {"grant_type": "client_credentials"}
        if instance.scopes:
            grant["scope"] = instance.scopes.replace("{url}", instance.url)
        now = asyncio.get_running_loop().time()
        try:
            answer = _parsed(await self._send("POST", TOKEN_PATH, self._basic(), grant))
        except CallFailed as failure:
            # Refused credentials count as temporary: an operator may correct them while surveys are retried.
            raise CallFailed(
                f"token-{failure.code}",
                failure.status,
                temporary=True,
                retry_after=failure.retry_after,
                said=failure.said,
            ) from None
        fields = answer if isinstance(answer, dict) else {}
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise CallFailed("token-missing", temporary=True)
        lifetime = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else DEFAULT_LIFETIME
        self._token = token
        self._renew_at = now + lifetime - min(MARGIN, lifetime * MARGIN_SHARE)
        return token

    def _basic(self) -> str:
        try:
            pair = f"{self._instance.client_id}:{self._instance.secret()}"
        except ConfigurationError:
            raise CallFailed("secret-unreadable", temporary=True) from None
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def _send(self, method: str, path: str, authorization: str, body: Any) -> "_Answer":
        """Send one request. The path is quoted already, and yarl must not decode it ("%2F" would become "/")."""
        headers = {"Authorization": authorization, "Accept": "application/json"}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                URL(f"{self._instance.url}{path}", encoded=True),
                data=data,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                content = await self._read(response)
        except TimeoutError:
            raise CallFailed("timeout", temporary=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed("unreachable", temporary=True, said=type(error).__name__) from None
        if response.status // 100 != 2:
            raise CallFailed(
                f"http-{response.status}",
                response.status,
                temporary=response.status in TEMPORARY or response.status >= 500,
                retry_after=seconds_until(response.headers.get("Retry-After")),
                said=message(content),
            )
        return _Answer(response.status, content)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._max_bytes:
                raise CallFailed("answer-too-large", response.status)
        return bytes(content)


class _Answer(NamedTuple):
    """An answer with a status of success."""

    status: int
    content: bytes


def _parsed(answer: _Answer) -> Any:
    """Parse an answer that is no patient's, as tolerantly as any other. Raises CallFailed."""
    try:
        return read_json(answer.content)[0] if answer.content else None
    except UnreadableBody:
        raise CallFailed("not-json", answer.status, temporary=True) from None


def message(content: bytes) -> str:
    """Return the instance's message from the body of an error, under any known key. For a terminal, never for a log."""
    try:
        body, _ = read_json(content)
    except UnreadableBody:
        return ""
    if isinstance(body, dict):
        for key in ("detail", "message", "error_description", "error"):
            if isinstance(said := body.get(key), str):
                return said
    return ""
