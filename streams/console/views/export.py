"""Export of a group of dead letters: the file that ``fhirline dead-letters export`` writes, as a download."""

import asyncio
import re
from collections.abc import Generator, Iterator, Sequence

import structlog
from aiohttp import web

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.console.access import SESSION, reason_in
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.views.dead_letters import MOST_REVEALED, cases_of, chosen_group
from fhirline.streams.operate.dead_letters.board import records
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.operate.dead_letters.export import line
from fhirline.streams.operate.dead_letters.view import audit_reveal

log = structlog.get_logger()
routes = web.RouteTableDef()

PART_BYTES = 262_144
"""Bytes that are read before they are sent."""
STALLED_SECONDS = 60.0
"""Seconds in which a client must take a part. An export of one that does not ends."""


@routes.post("/dead-letters/export")
async def export(request: web.Request) -> web.StreamResponse:
    """Send a line for each event of a group. With payloads, each is audited before anything is read."""
    console, form = request.app[CONSOLE], await request.post()
    chosen = chosen_group(form)
    found = cases_of(console, chosen)
    payloads = "payloads" in form
    if payloads and len(found) > MOST_REVEALED:
        text = f"With keys and payloads, at most {MOST_REVEALED:,} events are in a file, and these are {len(found):,}. "
        raise web.HTTPBadRequest(text=f"{text}Choose a smaller group, or use fhirline dead-letters export --reveal.\n")
    console.searching.require_free()
    if payloads:
        reason = reason_in(form)
        console.access.require_export()
        audit_reveal(found, "console export", reason, request[SESSION].user)
    name = "-".join(["dead-letters", *re.findall(r"[\w-]+", f"{chosen['vendor']} {chosen['code']}", re.ASCII)])
    stream = web.StreamResponse(
        headers={
            "Content-Type": "application/x-ndjson",
            "Content-Disposition": f'attachment; filename="{name}.jsonl"',
        }
    )
    lines = _lines(console.settings, found, payloads)
    try:
        part = await console.searching.run(_part, lines)  # what cannot be read at all is an error page
        await stream.prepare(request)
        while part:
            await asyncio.wait_for(stream.write(part), STALLED_SECONDS)
            part = await console.searching.go_on(_part, lines)
    except (ConnectionError, TimeoutError):
        _abort(request)
    except FhirlineError as error:
        if not stream.prepared:
            raise
        log.warning("export ended early", problem=str(error))
        _abort(request)  # the browser must not take it for the whole file
    finally:
        await console.searching.go_on(lines.close)
    return stream


def _lines(settings: Settings, found: Sequence[Case], payloads: bool) -> Generator[bytes, None, None]:
    """Make the lines. With payloads, letters that are gone are left out, as the command does."""
    if not payloads:
        yield from (line(case, None) for case in found)
        return
    lasts = {case.last.position: case for case in found}
    for record in records(settings, lasts.keys()):
        yield line(lasts[record.position], record)


def _part(lines: Iterator[bytes]) -> bytes:
    """Take the next lines; nothing at the end."""
    part = bytearray()
    for each in lines:
        part += each
        if len(part) >= PART_BYTES:
            break
    return bytes(part)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
