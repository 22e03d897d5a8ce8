"""The gateway's connections: slow heads, invalid HTTP, and refusals that quote nothing of a request."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from fhirline.streams.step1_receive.application import Refusal

log = structlog.get_logger()

LONGEST_LINE = 8_190
"""Bytes of a request line."""

LONGEST_HEADER = 8_191
"""Bytes of a header, name and value. It differs from `LONGEST_LINE` because aiohttp's error has only the limit."""

TOO_MANY_HEADERS = "Too many headers received"
"""aiohttp's message for more than 128 headers, whose exception has no class of its own."""

INVALID = ("bad-request", "the request is no valid HTTP")
TEXTS = {
    414: ("uri-too-long", f"the path is longer than {LONGEST_LINE} bytes"),
    417: ("expectation-failed", "no expectation but 100-continue is met"),
    431: ("headers-too-large", f"a header is longer than {LONGEST_HEADER} bytes, or there are too many"),
}


class Protocol(web.RequestHandler):
    """One connection. Invalid HTTP is refused as JSON; aiohttp's own answer would quote the request.

    ``head_timeout``: seconds within which the first request's head must arrive. aiohttp waits forever, so that silent
    connections could take every file descriptor. Later heads have the keep-alive timeout.
    """

    def __init__(self, *arguments: Any, head_timeout: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_timeout = head_timeout
        self._no_head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._no_head = asyncio.get_running_loop().call_later(self._head_timeout, self._close_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._head_came()

    def _head_came(self) -> None:
        if self._no_head is not None:
            self._no_head.cancel()
            self._no_head = None

    def _close_silent(self) -> None:
        log.warning("invalid http", error="no head in time")
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        status = status_of_error(exc) or status
        log.warning("invalid http", status=status, error=type(exc).__name__)
        if request.writer.output_size:
            raise ConnectionError("an answer has been begun already")
        response = Refusal(status, *TEXTS.get(status, INVALID)).answer()
        response.force_close()
        return response


def status_of_error(error: BaseException | None) -> int | None:
    """Return the status of an error for which aiohttp has only 400."""
    if isinstance(error, LineTooLong):
        return 414 if error.args[1] == LONGEST_LINE else 431
    return 431 if getattr(error, "message", None) == TOO_MANY_HEADERS else None


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def refusing_as_json(handler: Handler) -> Handler:
    """Answer what aiohttp refuses before any middleware. Its own text would quote the request's Expect header."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            log.warning("invalid http", status=error.status, error=type(error).__name__)
            response = Refusal(error.status, *TEXTS.get(error.status, INVALID)).answer()
            response.force_close()
            return response

    return answering
