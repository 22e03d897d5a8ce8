"""The gateway's connections: slow heads, and refusals that quote nothing of a request."""

import asyncio

import structlog
from aiohttp import web

from fhirline.streams.http.invalid_requests import Connection, text_of
from fhirline.streams.step1_receive.application import Refusal

log = structlog.get_logger()


def refusal(status: int) -> web.Response:
    """Answer a request that is not valid HTTP, as JSON."""
    return Refusal(status, *text_of(status)).answer()


class GatewayConnection(Connection):
    """One connection to the gateway.

    ``head_timeout``: seconds within which the first request's head must arrive. aiohttp waits forever, so that silent
    connections could take every file descriptor. Later heads have the keep-alive timeout.
    """

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, head_timeout: float, keepalive_timeout: float
    ) -> None:
        super().__init__(manager, loop, refusal, keepalive_timeout=keepalive_timeout, auto_decompress=False)
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
