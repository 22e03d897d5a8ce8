"""The console's HTTP application: its routes, its errors, and the pages' files."""

from pathlib import Path

import structlog
from aiohttp import web

from fhirline.config.errors import ConfigurationError, FhirlineError, KafkaAccessError
from fhirline.streams.console.access import SESSION, Handler, add_headers
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.rendering import page
from fhirline.streams.console.views import (
    audit,
    changes,
    dead_letters,
    events,
    export,
    login,
    parked,
    patients,
    pipeline,
    pipeline_numbers,
    playground,
    terminology,
)
from fhirline.streams.observe.logs import describe_error

log = structlog.get_logger()

VIEWS = (
    *(login, pipeline, pipeline_numbers, events, patients, dead_letters, export, parked, changes, playground),
    *(terminology, audit),
)
STATIC = Path(__file__).parent / "static"
SENTENCES = {
    403: "This is not for a browser.",
    404: "There is no such page.",
    405: "A page is opened by its link or its form.",
}
"""The sentence of an error page by status, for handlers that give none."""
FORM_BYTES = 65_536
"""Bytes of a form beside the body that the playground takes."""


def application(console: Console) -> web.Application:
    """Make the application. The caller closes ``console``."""
    most = 4 * console.settings.max_body_bytes + FORM_BYTES  # a form's encoding makes three bytes of one
    app = web.Application(middlewares=[errors, console.access.middleware], client_max_size=most)
    app[CONSOLE] = console
    app.on_response_prepare.append(add_headers)
    for view in VIEWS:
        app.add_routes(view.routes)
    app.router.add_static("/static/", STATIC)
    return app


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a failure with a page that says what to do. No text of a request or a record is repeated."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPRequestEntityTooLarge:
        return _error_page(request, 413, "Too large", "The form has more bytes or fields than any body needs.")
    except web.HTTPException as error:
        text = (error.text or error.reason).strip()
        if text == f"{error.status}: {error.reason}":  # the handler gave no text
            text = SENTENCES.get(error.status, "The console does not answer this.")
        answer = _error_page(request, error.status, error.reason, text)
        if again := error.headers.get("Retry-After"):
            answer.headers["Retry-After"] = again
        return answer
    except (KafkaAccessError, ConfigurationError) as error:
        return _error_page(request, 503, "Kafka or a setting prevents this page", str(error))
    except FhirlineError as error:
        return _error_page(request, 500, "It did not work", str(error))
    except Exception as error:  # noqa: BLE001  # a traceback may hold a payload
        log.error("page failed", error=describe_error(error))
        text = f"{type(error).__name__}. The log line `page failed` says where."
        return _error_page(request, 500, "A defect of the console", text)


def _error_page(request: web.Request, status: int, title: str, text: str) -> web.Response:
    return page(
        request,
        "error.html",
        status,
        title=title,
        text=text,
        known=SESSION in request or not request.app[CONSOLE].access.has_token,
    )
