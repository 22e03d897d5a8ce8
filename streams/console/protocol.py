"""The console's connections: what is no valid HTTP is refused with the headers of its pages, and nothing is quoted."""

import asyncio

import structlog
from aiohttp import web

from fhirline.streams.console.access import HEADERS
from fhirline.streams.step1_receive.protocol import INVALID, LONGEST_HEADER, LONGEST_LINE, TEXTS, status_of_error
from fhirline.streams.step1_receive.protocol import Handler as BaseHandler

log = structlog.get_logger()


class Protocol(web.RequestHandler):
    """One connection. aiohttp's own refusal of a request that cannot be read would quote it, in the log too."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_HEADER,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes it for none
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        status = status_of_error(exc) or status
        if request.writer.output_size:
            log.warning("answer ended early", error=type(exc).__name__)
            raise ConnectionError("an answer has been begun already")
        return _refusal(status, exc)


def refusing(handler: BaseHandler) -> BaseHandler:
    """Answer what aiohttp refuses before any middleware, such as an Expect header, which its own text would quote."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return _refusal(error.status, error)

    return answering


def _refusal(status: int, error: BaseException | None) -> web.Response:
    log.warning("invalid http", status=status, error=type(error).__name__)
    text = TEXTS.get(status, INVALID if status < 500 else ("", "the console did not answer in time"))[1]
    answer = web.Response(status=status, text=f"{status}: {text}.\n", headers=HEADERS)
    answer.force_close()
    return answer
