"""Hold what the pages share: settings, readings, the index of events, and threads for what waits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from aiohttp import web

from fhirline.config.settings import Settings
from fhirline.config.vendors import Vendors
from fhirline.streams.console.access import Access
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.live import Live
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.console.redrives import Redrives
from fhirline.streams.console.replays import Replays
from fhirline.streams.console.threads import Threads

REDRIVE = "redrive"
REPLAY = "replay"
"""Actions that `Console.allowed` may permit."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Console:
    """The objects of the pages. ``allowed``: permitted actions that change something, such as ``redrive``.

    ``reading``: for single records and small files. ``searching``: for what may take many seconds, such as a patient's
    timeline, so that it keeps no single record waiting. ``mapping``: for the playground, which needs no Kafka.
    """

    settings: Settings
    vendors: Vendors
    access: Access
    live: Live
    index: EventIndex
    allowed: frozenset[str]
    replays: Replays
    redrives: Redrives
    reading: Threads = field(default_factory=lambda: Threads("reading", number=2, waiting=64))
    searching: Threads = field(default_factory=lambda: Threads("searching", number=2, waiting=8))
    mapping: Threads = field(default_factory=lambda: Threads("mapping", number=1, waiting=32))
    lookups: list[Lookup] = field(default_factory=list)
    """Lookups that no thread uses. Each has a Kafka client of its own."""
    update: tuple[tuple[asyncio.Event, bool], bytes] | None = None
    """The figures as every open page gets them, and the `Live.changed` and `Live.late` that they are for."""

    def require_allowed(self, action: str) -> None:
        """Raise HTTPForbidden unless the action is permitted."""
        if action not in self.allowed:
            raise web.HTTPForbidden(text=f"This console is read-only. Start it with --allow {action}.")

    async def look_up(
        self, threads: Threads, call: Callable[Concatenate[Lookup, P], R], *arguments: P.args, **named: P.kwargs
    ) -> R:
        """Run a call that reads records, with a lookup that nobody else uses meanwhile."""

        def looked_up() -> R:
            lookup = self.lookups.pop() if self.lookups else Lookup(self.settings)
            try:
                return call(lookup, *arguments, **named)
            finally:
                self.lookups.append(lookup)

        return await threads.run(looked_up)

    def close(self) -> None:
        for threads in (self.reading, self.searching, self.mapping):
            threads.close()
        for lookup in self.lookups:
            lookup.close()


CONSOLE = web.AppKey("console", Console)
