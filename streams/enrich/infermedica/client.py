"""A client of one Infermedica instance: OAuth client credentials, and one call at a time that tells what went wrong.

Two rules that every call keeps: an answer's body is never logged and never quoted in an error that is (it may be a
patient's); the client's secret and its tokens go to the instance only, so no redirect is followed.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from yarl import URL

from fhirline.config.errors import ConfigurationError, FhirlineError

TOKEN_PATH = "/api/v2/oauth2/token"
TEMPORARY = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may be another one later. 409: the survey is not completed yet (vendor-payloads.md §2.2)."""

MARGIN = 60.0
MARGIN_SHARE = 0.1
"""A token is renewed this long before it expires: seconds, or a share of a short life."""
DEFAULT_LIFE = 3600.0
"""Seconds (vendor-payloads.md §2.5), where ``expires_in`` says nothing."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Where an instance is and who we are there. ``secret`` is asked each time: its file may have changed."""

    url: str
    client_id: str
    secret: Callable[[], str]
    scopes: str | None = None


class CallFailed(FhirlineError):
    """A call that brought nothing. ``code`` is stable and safe to log; ``said``, the instance's own words, is not."""

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
    """No limit of connections: callers have their own. No cookies: nothing is kept between calls."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


class Client:
    """Calls of one instance. A token is fetched once for all who need it, and once more where it is refused."""

    def __init__(self, session: aiohttp.ClientSession, instance: Instance, timeout: float, max_bytes: int) -> None:
        self._session = session
        self._instance = instance
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._max_bytes = max_bytes
        self._token: str | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[str] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The parsed answer of ``path`` (already quoted); raises CallFailed."""
        token = await self.token()
        try:
            return await self._send(method, path, f"Bearer {token}", body)
        except CallFailed as failure:
            if failure.status != 401:
                raise
        token = await self.token(refused=token)
        return await self._send(method, path, f"Bearer {token}", body)

    async def token(self, refused: str | None = None) -> str:
        """The token at hand, or a new one where it is about to expire or is ``refused``; raises CallFailed."""
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
            task.exception()  # whoever waited has it too; if nobody did any more, it is nobody's

    async def _fetch_token(self) -> str:
        instance = self._instance
        asked = {"grant_type": "client_credentials"}
        if instance.scopes:
            asked["scope"] = instance.scopes.replace("{url}", instance.url)
        now = asyncio.get_running_loop().time()
        try:
            answer = await self._send("POST", TOKEN_PATH, self._basic(), asked)
        except CallFailed as failure:
            # Refused credentials are what an operator mends: until the patience ends, they may be right again.
            raise CallFailed(
                f"token-{failure.code}",
                failure.status,
                temporary=True,
                retry_after=failure.retry_after,
                said=failure.said,
            ) from None
        token, lives = (answer.get("access_token"), answer.get("expires_in")) if isinstance(answer, dict) else (None, 0)
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise CallFailed("token-missing", temporary=True)
        lives = float(lives) if isinstance(lives, int | float) and lives > 0 else DEFAULT_LIFE
        self._token = token
        self._renew_at = now + lives - min(MARGIN, lives * MARGIN_SHARE)
        return token

    def _basic(self) -> str:
        try:
            pair = f"{self._instance.client_id}:{self._instance.secret()}"
        except ConfigurationError:
            raise CallFailed("secret-unreadable", temporary=True) from None
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def _send(self, method: str, path: str, authorization: str, body: Any) -> Any:
        """One request. The path is quoted already; yarl must not read it again ("%2F" would be "/")."""
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
        try:
            return orjson.loads(content) if content else None
        except orjson.JSONDecodeError:
            raise CallFailed("not-json", response.status, temporary=True) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._max_bytes:
                raise CallFailed("answer-too-large", response.status)
        return bytes(content)


def seconds_until(retry_after: str | None) -> float | None:
    """What ``Retry-After`` asks for: seconds, or an HTTP date; None where it is missing or neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def message(content: bytes) -> str:
    """The instance's own words in an error's body, whatever key they stand under; for a terminal, never for a log."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    if isinstance(body, dict):
        for key in ("detail", "message", "error_description", "error"):
            if isinstance(said := body.get(key), str):
                return said
    return ""
