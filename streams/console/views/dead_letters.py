"""Dead letters: groups with what to do, single events, and sending a group through the mapping again."""

import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from fhirline.config.tables import Table, read_table
from fhirline.streams.console.access import SESSION, reason_in
from fhirline.streams.console.console import CONSOLE, REDRIVE, Console
from fhirline.streams.console.index_entries import MOST_LISTED
from fhirline.streams.console.jobs import send_updates
from fhirline.streams.console.json_lines import json_lines
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.console.parked import waiting_patients
from fhirline.streams.console.redrives import RATE, Redrive
from fhirline.streams.console.rendering import page
from fhirline.streams.observe.audit import audit
from fhirline.streams.operate.dead_letters.cases import Case, Status, shape
from fhirline.streams.operate.dead_letters.redrive import SEND_AGAIN
from fhirline.streams.operate.dead_letters.selection import Filter, Group, grouped
from fhirline.streams.operate.dead_letters.view import audit_reveal, payload_document

routes = web.RouteTableDef()

MOST_REVEALED = 1_000
"""Events of an exported file with keys and payloads."""
NOT_DONE = [status for status in Status if status is not Status.DONE]
NAMES = ("vendor", "type", "code", "path", "status", "mapping")


class CodeDescription(BaseModel):
    """The description of an error code: what happened, and what to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    happened: str
    do: str


class Codes(Table):
    """``dead-letter-codes.yaml``: every error code."""

    codes: dict[str, CodeDescription]


@cache
def codes() -> dict[str, CodeDescription]:
    """Return the descriptions of the error codes."""
    path = Path(__file__).parents[1] / "dead-letter-codes.yaml"
    return read_table("dead-letter-codes", Codes, path).codes


@routes.get("/dead-letters")
async def show_groups(request: web.Request) -> web.StreamResponse:
    """Show groups of events that failed alike, with their numbers."""
    index = request.app[CONSOLE].index
    by_code: dict[str, list[Group]] = {}  # what to do is said once for a code; that of the largest group comes first
    for group in grouped(index.cases):
        by_code.setdefault(group.code, []).append(group)
    return page(
        request,
        "dead_letters.html",
        by_code=by_code,
        codes=codes(),
        statuses=tuple(Status),
        complete=index.complete,
        redrive=request.app[CONSOLE].redrives.current,
        delivered=index.deliveries.used,
        parked=len(waiting_patients(index.deliveries)),
    )


@routes.get("/dead-letters/events")
async def show_cases(request: web.Request) -> web.StreamResponse:
    """List the events of a group."""
    console, chosen = request.app[CONSOLE], chosen_group(request.query)
    found = cases_of(console, chosen)
    code = chosen["code"]
    return page(
        request,
        "dead_letter_events.html",
        chosen=chosen,
        cases=found[:MOST_LISTED],
        total=len(found),
        redrivable=len(_redrivable(found)),
        description=codes().get(code),
        most_revealed=MOST_REVEALED,
        allowed=REDRIVE in console.allowed,
    )


@routes.get("/dead-letters/event")
async def show_case(request: web.Request) -> web.StreamResponse:
    """Show one event's letters, without patient data."""
    return page(request, "dead_letter.html", **_known(_case(request)), payload=None)


@routes.post("/dead-letters/event")
async def reveal_case(request: web.Request) -> web.StreamResponse:
    """Show a letter's payload. It is audited before it is shown."""
    console, case = request.app[CONSOLE], _case(request)
    reason = reason_in(await request.post())
    console.reading.require_free()
    console.access.require_reveal()
    audit_reveal([case], "console", reason, request[SESSION].user)
    letter = await console.look_up(console.reading, Lookup.letter, case)
    if letter is None:
        raise web.HTTPGone(text="The letter is gone: it was deleted, or its patient was erased.\n")
    return page(request, "dead_letter.html", **_known(case), payload=json_lines(payload_document(letter)))


@routes.get("/dead-letters/redrive")
async def confirm_redrive(request: web.Request) -> web.StreamResponse:
    """Say what a redrive would send. Nothing is sent."""
    console, chosen = request.app[CONSOLE], chosen_group(request.query)
    console.require_allowed(REDRIVE)
    found = _redrivable(cases_of(console, chosen))
    key = secrets.token_hex(8)
    busy = console.redrives.running
    return page(request, "redrive.html", chosen=chosen, total=len(found), key=key, rate=RATE, busy=busy)


@routes.post("/dead-letters/redrive")
async def redrive(request: web.Request) -> web.StreamResponse:
    """Begin to send the group's events to their raw topics again. The same form again shows the same redrive."""
    console, form = request.app[CONSOLE], await request.post()
    console.require_allowed(REDRIVE)
    chosen, key = chosen_group(form), str(form.get("key", ""))
    if not (key.isalnum() and len(key) <= 64):
        raise web.HTTPBadRequest(text="The form has no idempotency key. Open the page again.\n")
    current = console.redrives.current
    if current is None or current.key != key:
        if console.redrives.running:
            raise web.HTTPConflict(text="Another redrive of this console is running. Wait until it has ended.\n")
        found = [case for case in _redrivable(cases_of(console, chosen)) if not case.answers(key)]
        audit("dead letters redriven", by="console", name=request[SESSION].user, events=str(len(found)), key=key)
        console.redrives.begin(Redrive(chosen, key, {case.id: case.last.vendor for case in found}))
    raise web.HTTPSeeOther("/dead-letters/redrive/progress")


@routes.get("/dead-letters/redrive/progress")
async def show_redrive(request: web.Request) -> web.StreamResponse:
    """Show how far the redrive is that the console began last, or what became of it."""
    return page(request, "redrive_job.html", **_progress(request.app[CONSOLE]))


@routes.get("/dead-letters/redrive/progress/updates", allow_head=False)
async def send_redrive(request: web.Request) -> web.StreamResponse:
    """Send the progress whenever it changes."""
    console = request.app[CONSOLE]
    return await send_updates(
        request, console.redrives.current, lambda: page(request, "redrive_progress.html", **_progress(console))
    )


@routes.post("/dead-letters/redrive/progress/stop")
async def stop_redrive(request: web.Request) -> web.StreamResponse:
    """Send no more events."""
    console = request.app[CONSOLE]
    console.require_allowed(REDRIVE)
    current = console.redrives.current
    if current is not None and current.running:
        audit("redrive stopped", by="console", name=request[SESSION].user, key=current.key)
        console.redrives.stop()
    raise web.HTTPSeeOther("/dead-letters/redrive/progress")


def _progress(console: Console) -> dict[str, Any]:
    return {"redrive": console.redrives.current, "allowed": REDRIVE in console.allowed, "most": MOST_LISTED}


def chosen_group(sent: Any) -> dict[str, str]:
    """Return the filters of an address or a form that choose a group of events."""
    return {name: str(sent.get(name, "")) for name in NAMES}


def cases_of(console: Console, chosen: dict[str, str]) -> list[Case]:
    """Return the events of a group. A path is one without indexes."""
    try:
        statuses = (
            NOT_DONE if chosen["status"] == "not-done" else [Status(chosen["status"])] if chosen["status"] else []
        )
    except ValueError:
        raise web.HTTPBadRequest(text=f"status: none of {', '.join(Status)}, not-done.\n") from None
    wanted = Filter(
        vendors=_listed(chosen["vendor"]),
        event_types=_listed(chosen["type"]),
        codes=_listed(chosen["code"]),
        mapping_versions=_listed(chosen["mapping"]),
        statuses=statuses,
    )
    path = chosen["path"]
    return [case for case in console.index.cases if wanted(case) and (not path or shape(case.last.path) == path)]


def _listed(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _redrivable(found: Sequence[Case]) -> list[Case]:
    return [case for case in found if case.status in SEND_AGAIN]


def _case(request: web.Request) -> Case:
    id = request.query.get("id", "")
    for case in request.app[CONSOLE].index.cases:
        if case.id == id:
            return case
    raise web.HTTPNotFound(text="There is no dead letter with this id.\n")


def _known(case: Case) -> dict[str, Any]:
    return {"case": case, "description": codes().get(case.last.code)}
