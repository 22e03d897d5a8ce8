"""The login, by the token that the process printed, once per browser, and the end of the session."""

from aiohttp import web

from fhirline.streams.console.access import NEXT, NOT_DONE, form_of
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.rendering import page

routes = web.RouteTableDef()

TOKEN = "token"  # the field's name


@routes.get("/login")
async def show_login(request: web.Request) -> web.StreamResponse:
    """Ask for the token; a link that has it starts the session at once."""
    request.app[CONSOLE].access.require_token_login()
    next_page = request.query.get(NEXT, "/")
    if token := request.query.get(TOKEN):
        raise request.app[CONSOLE].access.log_in(token, next_page)
    return page(request, "login.html", next_page=next_page, not_done=NOT_DONE in request.query)


@routes.post("/login")
async def log_in(request: web.Request) -> web.StreamResponse:
    """Start a session."""
    form = await form_of(request)
    raise request.app[CONSOLE].access.log_in(str(form.get(TOKEN, "")), str(form.get(NEXT, "/")))


@routes.post("/session/end")
async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session."""
    raise request.app[CONSOLE].access.log_out(request)
