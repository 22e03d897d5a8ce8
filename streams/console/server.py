"""The console's server: it listens, prints its address, and ends on SIGTERM or Ctrl-C."""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Callable

import structlog
from aiohttp import web

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.terminology import load_terminology, packaged_table
from fhirline.config.vendors import load_vendors
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.console.access import Access
from fhirline.streams.console.application import application
from fhirline.streams.console.console import Console
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.hosts import own_hosts
from fhirline.streams.console.live import Live
from fhirline.streams.console.redrives import Redrives
from fhirline.streams.console.refusals import refusal
from fhirline.streams.console.replays import Replays
from fhirline.streams.http.invalid_requests import Connection, refusing

log = structlog.get_logger()

BACKLOG = 64


async def serve(settings: Settings, token: str, allowed: frozenset[str], show: Callable[[str], None]) -> None:
    """Listen until SIGTERM or SIGINT. ``show`` is called with the address once it listens.

    Raises ConfigurationError for an address that cannot be bound, a public host that is none, and a wrong code table.
    """
    await asyncio.to_thread(_load_tables, settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    host = settings.console_host
    listener = _bound(host, settings.console_port)
    number = listener.getsockname()[1]
    access = Access(token, settings.console_user_header, time.monotonic)
    try:
        access.hosts = own_hosts(host, number, settings.console_public_host)
    except ConfigurationError:
        listener.close()
        raise
    index = EventIndex(settings)
    live = Live(settings, index)
    vendors = load_vendors(settings.vendors_file)
    replays, redrives = Replays(settings.replay_dir), Redrives(settings)
    console = Console(settings, vendors, access, live, index, allowed, replays, redrives)
    runner = web.AppRunner(application(console), shutdown_timeout=1)
    await runner.setup()
    listening = None
    try:
        live.start()
        listening = await _listening(runner, listener)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{number}/"
        log.info("console listening", url=url, bootstrap=settings.bootstrap)
        show(url)
        await stopped.wait()
        log.info("console stopping")
    finally:
        if listening is not None:
            listening.close()
        await asyncio.gather(console.replays.close(), console.redrives.close())
        await live.stop()
        await runner.cleanup()
        await asyncio.to_thread(console.close)
        index.close()


async def _listening(runner: web.AppRunner, listener: socket.socket) -> asyncio.Server:
    """Accept connections."""
    loop, manager = asyncio.get_running_loop(), runner.server
    assert manager is not None
    manager.request_handler = refusing(manager.request_handler, refusal)
    return await loop.create_server(lambda: Connection(manager, loop, refusal), sock=listener, backlog=BACKLOG)


def _load_tables(settings: Settings) -> None:
    """Read code tables, mappings and schemas before the first page asks for them, which would take a second."""
    build_normalizer(settings).validate({"resourceType": "Patient"})  # compiles the schemas
    for name in load_terminology(settings.terminology_dir).names:
        packaged_table(name)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = "in use" if error.errno == errno.EADDRINUSE else (error.strerror or type(error).__name__)
        raise ConfigurationError(f"console: {host}:{port}: {why}; choose another with --port") from None
    return listener
