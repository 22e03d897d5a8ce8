"""``/metrics``, ``/healthz`` and ``/readyz`` of a process, at ``FHIRLINE_METRICS_HOST``:``FHIRLINE_METRICS_PORT``.

Off unless a port is set: several processes of one host need several ports, which only the operator knows. The port is
bound before anything else starts, so that a port in use ends the process with a message.
"""

import errno
import socket
from collections.abc import Callable, Sequence

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings

log = structlog.get_logger()

BACKLOG = 16


class Endpoint:
    """Serves on the process's event loop, so that an answer of ``/healthz`` proves that the loop runs.

    ``problems`` returns why the process is not ready to work; empty when it is. `stop` closes the endpoint.
    """

    def __init__(
        self, listener: socket.socket, registry: CollectorRegistry, problems: Callable[[], Sequence[str]]
    ) -> None:
        self._listener = listener
        self._registry = registry
        self._problems = problems
        app = web.Application()
        app.on_response_prepare.append(_without_versions)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthy)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()
        host, port = self._listener.getsockname()[:2]
        log.info("metrics listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        if problems := self._problems():
            return web.json_response({"status": "not ready", "problems": list(problems)}, status=503)
        return web.json_response({"status": "ready"})


async def _without_versions(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "fhirline"


def bind_port(settings: Settings) -> socket.socket | None:
    """Bind the port of the settings; None where none is set. Raises ConfigurationError."""
    if settings.metrics_port is None:
        return None
    where = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        found = socket.getaddrinfo(settings.metrics_host, settings.metrics_port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        hint = "; each process of a host needs a port of its own" if error.errno == errno.EADDRINUSE else ""
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"FHIRLINE_METRICS_HOST, FHIRLINE_METRICS_PORT: {where}: {reason}{hint}") from None
