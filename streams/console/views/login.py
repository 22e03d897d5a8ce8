"""The login: the token that the process printed, once per browser."""

from aiohttp import web

from fhirline.streams.console.access import form_of
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.rendering import page

routes = web.RouteTableDef()

TOKEN = "token"  # the field's name


@routes.get("/login")
async def show_login(request: web.Request) -> web.StreamResponse:
    """Ask for the token; a link that has it starts the session at once."""
    if token := request.query.get(TOKEN):
        raise request.app[CONSOLE].access.log_in(token)
    return page(request, "login.html")


@routes.post("/login")
async def log_in(request: web.Request) -> web.StreamResponse:
    """Start a session."""
    raise request.app[CONSOLE].access.log_in(str((await form_of(request)).get(TOKEN, "")))
