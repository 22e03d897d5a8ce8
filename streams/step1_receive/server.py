"""The gateway's HTTP server: access log, refusals as JSON, and an orderly shutdown."""

import asyncio
import resource
import signal
from pathlib import Path
from time import perf_counter

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from structlog.contextvars import bind_contextvars, clear_contextvars

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.http.invalid_requests import refusing
from fhirline.streams.kafka.watch import KafkaWatch
from fhirline.streams.observe.gc_tuning import tune_gc
from fhirline.streams.observe.logs import log_loop_error
from fhirline.streams.observe.metrics.endpoint import Endpoint, bind_port
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.observe.tracing import tracing
from fhirline.streams.step1_receive.application import Gateway, Refusal
from fhirline.streams.step1_receive.connection import GatewayConnection, refusal
from fhirline.streams.step1_receive.credentials import Secrets, environment
from fhirline.streams.step1_receive.metrics import GatewayMetrics
from fhirline.streams.step1_receive.raw_producer import RawProducer

log = structlog.get_logger()

KEEPALIVE = 75.0
BACKLOG = 1024
OPEN_FILES = 65_536
"""Connections and files that the process may have open, where its hard limit allows that. With the usual soft limit,
1,024 idle connections would keep the vendors out."""
QUIET = ("/healthz", "/readyz")
"""Paths that are polled every few seconds, and logged at debug level only."""


async def serve(settings: Settings, port_file: Path | None = None, away: str | None = None) -> None:
    """Listen until SIGTERM or SIGINT. Then answer the requests in flight, wait for Kafka, and return.

    ``away``: why Kafka does not answer yet.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    _raise_file_limit()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    tracer = tracing(settings, "gateway")
    producer = RawProducer(settings, tracer)
    watch = KafkaWatch(settings)
    vendors = load_vendors(settings.vendors_file)
    gateway = Gateway(settings, vendors, Secrets(environment()), producer, watch.problems)
    requests = Requests()
    registry = new_registry("gateway")
    metrics = GatewayMetrics(registry, vendors.names)
    traced = [tracer.middleware] if tracer is not None else []
    app = web.Application(middlewares=[requests.middleware, access_log, metrics.middleware, *traced, refusals])
    gateway.add_routes(app.router)
    inner = bind_port(settings)  # a port of its own, which senders cannot reach
    endpoint = Endpoint(inner, registry, lambda: gateway.missing_secrets() + watch.problems()) if inner else None
    runner = web.AppRunner(app, shutdown_timeout=1)  # all requests have been answered by then
    await runner.setup()
    tune_gc()
    watch.start(away)
    try:
        listener = await _listen(runner, settings)
        for line in gateway.missing_secrets():
            log.error("not ready", problem=line)
        host = f"[{settings.gateway_host}]" if ":" in settings.gateway_host else settings.gateway_host
        port = listener.sockets[0].getsockname()[1]
        log.info("gateway listening", url=f"http://{host}:{port}", bootstrap=settings.bootstrap)
        if endpoint is not None:
            await endpoint.start()
        if port_file is not None:
            _write_port(port_file, port)
        await stopped.wait()
        log.info("gateway stopping")
        listener.close()
        await requests.answered(settings.gateway_delivery_timeout + 5)
    finally:
        await runner.cleanup()
        if endpoint is not None:
            await endpoint.stop()
        left = await producer.stop()
        watch.stop()
        if tracer is not None:
            await asyncio.to_thread(tracer.stop)
    log.info("gateway stopped", unacknowledged=left)


class Requests:
    """Counts the requests in flight, so that the server can stop after them.

    aiohttp, once it stops, reads no further byte of a request.
    """

    def __init__(self) -> None:
        self._at_work = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._at_work += 1
            self._idle.clear()
            try:
                response = await handler(request)
            finally:
                self._at_work -= 1
                if not self._at_work:
                    self._idle.set()
            if self._stopping:
                response.force_close()  # no more requests on this connection
            return response

        return counted

    async def answered(self, within: float) -> None:
        """Wait for the requests in flight, at most ``within`` seconds: a sender may never end its body."""
        self._stopping = True
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests given up", at_work=self._at_work)


def _raise_file_limit() -> None:
    """Allow `OPEN_FILES` open files, or as many as the hard limit does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _listen(runner: web.AppRunner, settings: Settings) -> asyncio.Server:
    """Bind the gateway's address and accept connections. Raises ConfigurationError."""
    loop = asyncio.get_running_loop()
    manager = runner.server
    assert manager is not None
    manager.request_handler = refusing(manager.request_handler, refusal)

    def connection() -> GatewayConnection:
        return GatewayConnection(manager, loop, settings.gateway_read_timeout, KEEPALIVE)

    try:
        return await loop.create_server(connection, settings.gateway_host, settings.gateway_port, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"FHIRLINE_GATEWAY_HOST, FHIRLINE_GATEWAY_PORT: {where}: {reason}") from None


def _write_port(path: Path, port: int) -> None:
    """Write the port file atomically: a reader that waits for it never sees half of it."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(f"{port}\n", "ascii")
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(f"--port-file {path}: {error.strerror}") from None


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log one line per request, with the route's template instead of the path, and nothing of the body."""
    clear_contextvars()
    started = perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical.removesuffix("/") if resource else None
    bind_contextvars(method=request.method, route=route)
    try:
        response = await handler(request)
        level = "debug" if route in QUIET else "info"
        milliseconds = round((perf_counter() - started) * 1000, 2)
        getattr(log, level)("request", status=response.status, ms=milliseconds)
    finally:
        clear_contextvars()  # the connection's next line may be about another request, or none
    return response


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer all refusals as JSON, our own and aiohttp's. A defect is logged by type and place; its answer is 500."""
    try:
        return await handler(request)
    except Refusal as refusal:
        bind_contextvars(error=refusal.code)
        return refusal.answer()
    except web.HTTPMethodNotAllowed as error:
        allow = {"Allow": ",".join(sorted(error.allowed_methods))}
        return Refusal(405, "method-not-allowed", "another method is meant for this path", allow).answer()
    except web.HTTPException as error:
        code = "not-found" if error.status == 404 else "bad-request"
        return Refusal(error.status, code, "nothing is received at this path").answer()
    except Exception:
        log.exception("defect")
        return Refusal(500, "internal", "a defect of the gateway; the event was not kept").answer()
