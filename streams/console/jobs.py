"""Jobs that the console begins and a page follows: one that runs, its result afterwards, and its progress as events."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from fhirline.streams.console.server_sent_events import encoded, open_stream


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """`changed` is set, and made anew, whenever there is something new. ``stopping``: it was told to end."""

    begun: float = field(default_factory=time.time)
    stopping: bool = False
    revision: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        raise NotImplementedError

    @property
    def version(self) -> str:
        """Return the version of what the page shows now."""
        return f"{self.begun}-{self.revision}"

    def notify(self) -> None:
        """Wake those who wait for something new."""
        self.revision += 1
        self.changed.set()
        self.changed = asyncio.Event()


async def send_updates(request: web.Request, job: Job | None, render: Callable[[], web.Response]) -> web.StreamResponse:
    """Send a job's progress whenever it changes (server-sent events). 204 ends it: the browser asks no more."""
    seen = request.headers.get("Last-Event-ID", "")
    if job is None or (not job.running and seen == job.version):
        return web.Response(status=204)
    stream = await open_stream(request)
    while True:
        changed, version, running = job.changed, job.version, job.running
        try:
            await stream.write(encoded(render().text or "", version, 1_000))
        except ConnectionError:
            return stream
        if not running:
            return stream
        await changed.wait()
