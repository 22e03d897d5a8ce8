"""Refusals of what is no valid HTTP, for gateway and console. aiohttp's own would quote the request, in the log too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

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

Refuse = Callable[[int], web.Response]
"""Makes the answer of a status, in the form of all answers of the process. `text_of` has its words."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """One connection, which refuses invalid HTTP and ends after a refusal. ``named``: further settings of aiohttp's."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, refuse: Refuse, **named: Any) -> None:
        super().__init__(
            manager,
            loop=loop,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_HEADER,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes it for none
            **named,
        )
        self._refuse = refuse

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size:
            log.warning("answer ended early", error=type(exc).__name__)
            raise ConnectionError("an answer has been begun already")
        return _refused(self._refuse, _status_of(exc) or status, exc)


def text_of(status: int) -> tuple[str, str]:
    """Return the code and the words of a refusal. They quote nothing."""
    return TEXTS.get(status, INVALID)


def refusing(handler: Handler, refuse: Refuse) -> Handler:
    """Refuse what aiohttp refuses before any middleware, such as an Expect header."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return _refused(refuse, error.status, error)

    return answering


def _refused(refuse: Refuse, status: int, error: BaseException | None) -> web.Response:
    log.warning("invalid http", status=status, error=type(error).__name__)
    answer = refuse(status)
    answer.force_close()
    return answer


def _status_of(error: BaseException | None) -> int | None:
    """Return the status of an error for which aiohttp has only 400."""
    if isinstance(error, LineTooLong):
        return 414 if error.args[1] == LONGEST_LINE else 431
    return 431 if getattr(error, "message", None) == TOO_MANY_HEADERS else None
