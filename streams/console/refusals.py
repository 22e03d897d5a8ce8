"""The console's answers to invalid HTTP. They have the headers of its pages, and quote nothing."""

from aiohttp import web

from fhirline.streams.console.access import HEADERS
from fhirline.streams.http.invalid_requests import text_of


def refusal(status: int) -> web.Response:
    """Answer a request that cannot be read, or was not answered in time."""
    text = text_of(status)[1] if status < 500 else "the console did not answer in time"
    return web.Response(status=status, text=f"{status}: {text}.\n", headers=HEADERS)
