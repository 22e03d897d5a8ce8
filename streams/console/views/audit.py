"""The audit lines that this console has written."""

from aiohttp import web

from fhirline.streams.console.rendering import page
from fhirline.streams.observe.audit import KEPT, lines

routes = web.RouteTableDef()


@routes.get("/audit")
async def show_audit(request: web.Request) -> web.StreamResponse:
    """List the lines, the newest first."""
    return page(request, "audit.html", lines=lines()[::-1], kept=KEPT)
