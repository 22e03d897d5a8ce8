"""The pipeline: what arrives, what becomes of it, and whether anything is stuck."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.live import LATE
from fhirline.streams.console.rendering import page
from fhirline.streams.console.server_sent_events import encoded, open_stream
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.dead_letters.cases import Status as CaseStatus

routes = web.RouteTableDef()

WIDTH, HEIGHT = 120, 24
"""Size of a sparkline, in its own units."""


class Sentence(NamedTuple):
    """A sentence about what needs attention, with the link to a page about it; empty where there is no page."""

    text: str
    page: str = ""
    link: str = ""


@routes.get("/")
async def show_pipeline(request: web.Request) -> web.StreamResponse:
    """Show every vendor's inflow, event types and dead letters."""
    return page(request, "pipeline.html", **_figures(request.app[CONSOLE]))


@routes.get("/pipeline/updates", allow_head=False)
async def send_updates(request: web.Request) -> web.StreamResponse:
    """Send the figures again at each reading (server-sent events)."""
    console = request.app[CONSOLE]
    stream = await open_stream(request)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(console.live.changed.wait(), LATE)  # a hanging broker must be shown, too
        try:
            await stream.write(_update(request))
        except (ConnectionError, asyncio.CancelledError):
            return stream


def _update(request: web.Request) -> bytes:
    """Render the figures, once per reading: hundreds of pages may be open."""
    console = request.app[CONSOLE]
    of = console.live.changed, console.live.late
    if console.update is None or console.update[0] != of:
        text = page(request, "pipeline_figures.html", **_figures(console)).text or ""
        console.update = of, encoded(text)
    return console.update[1]


def _figures(console: Console) -> dict[str, Any]:
    status, cases = console.live.status, console.index.cases
    waiting = sum(case.status is not CaseStatus.DONE for case in cases)
    return {
        "status": status,
        "problem": console.live.problem,
        "complete": console.index.complete,
        "vendors": {name: list(of) for name, of in groupby(console.index.types, lambda count: count.vendor)},
        "delivers": console.settings.fhir_server is not None,
        "tables": console.settings.tables_url is not None,
        "tables_asked": console.index.tables_asked,
        "lines": {
            inflow.topic: sparkline(console.live.sparkline(inflow.topic))
            for inflow in (status.inflows if status else ())
        },
        "sparkline": sparkline,
        "stuck": _stuck(console, waiting),
    }


def _stuck(console: Console, waiting: int) -> list[Sentence]:
    """Describe in sentences what needs attention; empty where nothing does."""
    status, found = console.live.status, list[Sentence]()
    if console.live.problem:
        found.append(Sentence(f"The figures are not current: {console.live.problem}"))
    elif console.live.late and status is not None:
        of = datetime.fromtimestamp(status.at, UTC)
        text = f"The figures are of {of:%H:%M:%S} UTC, and not current: the cluster has not answered since."
        found.append(Sentence(text))
    if status is None:
        return found
    for members in status.members:
        if members.unassigned and not members.group.unnamed:
            have = "has" if members.unassigned == 1 else "have"
            text = f"{members.unassigned} of {counted(members.partitions, 'partition')} {have} no process of the group "
            where = f"/pipeline/group?{urlencode({'name': members.group.name})}"
            found.append(Sentence(f"{text}{members.group.name}. Is its process running?", where, "See which"))
    for stalled in console.live.stalled:
        text = f"{counted(stalled.records, 'record')} of {stalled.topic}: the group {stalled.group} has taken none of "
        text += f"them for {stalled.seconds // 60:.0f} min. Is its process running?"
        where = f"/pipeline/partitions?{urlencode({'topic': stalled.topic, 'group': stalled.group})}"
        found.append(Sentence(text, where, "See its partitions"))
    if waiting:
        text = f"{counted(waiting, 'event')} could not be mapped: dead letters without a successful redrive."
        found.append(Sentence(text, "/dead-letters", "See the dead letters"))
    if status.parked is not None and status.parked.patients:
        text = f"{counted(status.parked.patients, 'patient')} must wait until the FHIR server takes a Bundle."
        found.append(Sentence(text, "/dead-letters/waiting", "See who waits, and why"))
    return found


def sparkline(rates: Sequence[float]) -> str:
    """Make the points of a polyline. No rate is at the bottom, the largest at the top.

    >>> sparkline([0.0, 2.0, 1.0])
    '0.0,24.0 60.0,0.0 120.0,12.0'
    """
    most = max(rates, default=0.0) or 1.0
    step = WIDTH / max(1, len(rates) - 1)
    return " ".join(f"{place * step:.1f},{HEIGHT - rate / most * HEIGHT:.1f}" for place, rate in enumerate(rates))
