"""Hold what the pages share: settings, readings, the index of events, and threads for what waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from aiohttp import web

from fhirline.config.settings import Settings
from fhirline.config.vendors import Vendors
from fhirline.streams.console.access import Access
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.live import Live
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.console.redrives import Redrives
from fhirline.streams.console.replays import Replays

P = ParamSpec("P")
R = TypeVar("R")


def _one_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)


@dataclass(slots=True)
class Console:
    """``allowed``: actions that change something and are permitted, such as ``redrive``."""

    settings: Settings
    vendors: Vendors
    access: Access
    live: Live
    index: EventIndex
    lookup: Lookup
    allowed: frozenset[str]
    replays: Replays
    redrives: Redrives
    reading: ThreadPoolExecutor = field(default_factory=lambda: _one_thread("reading"))
    """For what reads or writes Kafka when somebody asks: one at a time."""
    mapping: ThreadPoolExecutor = field(default_factory=lambda: _one_thread("mapping"))
    """For the playground, which needs no Kafka."""
    update: tuple[tuple[asyncio.Event, bool], bytes] | None = None
    """The figures as every open page gets them, and the `Live.changed` and `Live.late` that they are for."""

    async def read(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a call that waits for Kafka beside the event loop."""
        return await _run(self.reading, call, *arguments, **named)

    async def map(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a mapping beside the event loop."""
        return await _run(self.mapping, call, *arguments, **named)

    def close(self) -> None:
        self.reading.submit(self.lookup.close)
        for executor in (self.reading, self.mapping):
            executor.shutdown()


CONSOLE = web.AppKey("console", Console)


async def _run(executor: ThreadPoolExecutor, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: call(*arguments, **named))
