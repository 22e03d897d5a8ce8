"""Events: search, what became of one, and, with a reason, its payload beside its resources."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from fhirline.config import tables
from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.streams.console.access import SESSION, reason_in
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.event_delivery import delivered, tables_of
from fhirline.streams.console.event_listing import TABLED, Chosen
from fhirline.streams.console.event_progress import (
    DEAD_LETTER,
    DELIVERED,
    MAPPED,
    PARKED,
    PARTLY,
    REFUSED,
    UNKNOWN,
    WAITING,
)
from fhirline.streams.console.ids_of_keys import PATIENTS, resources_of
from fhirline.streams.console.index_entries import ANY_FLAG, MOST_LISTED, IndexedEvent, ListedEvent
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.console.rendering import page
from fhirline.streams.console.revealed import revealed_event
from fhirline.streams.console.views import dead_letters
from fhirline.streams.observe.audit import audit
from fhirline.streams.operate.trace.kind import kind_of
from fhirline.streams.operate.trace.view import audit_reveal

routes = web.RouteTableDef()

EVENT = "/events/{vendor}/{tenant:[^/]*}/{event_key}"

EVERYTHING = Chosen()
WORDS = {
    MAPPED: "mapped",
    PARTLY: "partly mapped",
    UNKNOWN: "of a type that is not supported",
    DEAD_LETTER: "in a dead letter",
    DELIVERED: "delivered",
    WAITING: "waiting for the delivery",
    PARKED: "parked",
    REFUSED: "refused by the FHIR server",
    TABLED: "in the SQL tables",
}
"""Choice of the search → its name on the page."""


@routes.get("/events")
async def show_events(request: web.Request) -> web.StreamResponse:
    """List the newest events, or those that a search finds."""
    index = request.app[CONSOLE].index
    query = request.query
    search = query.get("q", "")
    kind = kind_of(search.strip())
    if kind is not None:
        find = {"event": index.by_key, "raw record": index.by_raw, "resource": index.of_resource}[kind]
        found = find(search.strip())
        if len(found) == 1:
            raise web.HTTPSeeOther(found[0].address)
        return _events(request, index.listing.listed(found), search=search, kind=kind)
    if search.strip():
        return _events(request, [], search=search)
    try:
        chosen = Chosen.of(query)
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"There is no such choice: {error}.\n") from None
    counted = None if chosen.flag else index.listing.count(chosen)
    return _events(request, index.listing.newest(chosen, MOST_LISTED), chosen=chosen, count=counted)


def _events(
    request: web.Request,
    events: list[ListedEvent],
    *,
    search: str = "",
    kind: str | None = None,
    chosen: Chosen = EVERYTHING,
    count: int | None = None,
) -> web.Response:
    """Show a list. ``count``: how many there are of what was chosen, where that is known."""
    index = request.app[CONSOLE].index
    return page(
        request,
        "events.html",
        search=search,
        kind=kind,
        events=events,
        chosen=chosen,
        name=" · ".join(_words(chosen)),
        count=count,
        complete=index.complete,
        most=MOST_LISTED,
        form_page="/events",  # without what was searched
        vendors=list(PATIENTS),
        tenant=DEFAULT_TENANT,
    )


@routes.post("/events/search")
async def search_by_key(request: web.Request) -> web.StreamResponse:
    """List the events of a patient or a consultation. Keys are in no URL and no log; the audit line has the ids."""
    console, form = request.app[CONSOLE], await request.post()
    vendor, tenant, patient, consultation = (
        str(form.get(name, "")).strip() for name in ("vendor", "tenant", "patient", "consultation")
    )
    reason = reason_in(form)
    if vendor not in PATIENTS or not re.fullmatch(SLUG, tenant):
        raise web.HTTPBadRequest(text="There is no such vendor, or the tenant is no slug.\n")
    resources = resources_of(console.settings, vendor, tenant, patient, consultation)
    if not resources:
        raise web.HTTPBadRequest(text="Give the patient's key: a consultation is named by both keys.\n")
    console.access.require_reveal()
    audit(
        "events of a patient searched",
        by="console",
        name=request[SESSION].user,
        reason=reason,
        resources=" ".join(resources),
    )
    found = {event.id: event for resource in resources for event in console.index.of_resource(resource)}
    events = sorted(found.values(), key=lambda event: event.written, reverse=True)
    if len(events) == 1:
        raise web.HTTPSeeOther(events[0].address)
    return _events(request, console.index.listing.listed(events[:MOST_LISTED]), kind="key")


@routes.get(EVENT)
async def show_event(request: web.Request) -> web.StreamResponse:
    """Show what became of an event, without patient data."""
    console = request.app[CONSOLE]
    event = _event(request)
    return page(request, "event.html", **await _known(console, event), revealed=None)


@routes.post(EVENT + "/reveal")
async def reveal_event(request: web.Request) -> web.StreamResponse:
    """Show payload and resources. It is audited before anything is shown."""
    console, form = request.app[CONSOLE], await request.post()
    event = _event(request)
    reason = reason_in(form)
    threads = console.searching if "sources" in form else console.reading
    threads.require_free()
    console.access.require_reveal()
    raw = await console.look_up(console.reading, Lookup.raw, event.raw)
    if raw is None:
        raise web.HTTPGone(text="The raw record is gone: retention is over, or its patient was erased.\n")
    audit_reveal([raw], reason, request[SESSION].user, by="console")
    waited_for = (lambda: request.transport is not None) if "sources" in form else None
    shown = await console.look_up(threads, revealed_event, console, event, raw, waited_for)
    return page(request, "event.html", **await _known(console, event), revealed=shown)


def _words(chosen: Chosen) -> Iterator[str]:
    flag = "with flags" if chosen.flag == ANY_FLAG else chosen.flag
    ways = (WORDS.get(way, "") for way in (chosen.became, chosen.delivery, chosen.tables))
    since = f"received since {chosen.since.removesuffix('Z').replace('T', ' ')} UTC" if chosen.since else ""
    yield from filter(None, (chosen.vendor, chosen.type, flag, *ways, since))


def _event(request: web.Request) -> IndexedEvent:
    named, index = request.match_info, request.app[CONSOLE].index
    found = index.by_name(named["vendor"], named["tenant"], named["event_key"])
    if found is None:
        why = "" if index.complete else " The topics are still being read: load the page again in a moment."
        raise web.HTTPNotFound(text=f"There is no such event, or its patient was erased.{why}\n")
    return found


async def _known(console: Console, event: IndexedEvent) -> dict[str, Any]:
    flags = tables.flags().flags
    codes = console.index.flags(event.id)
    return {
        "event": event,
        "flags": [(code, flags[code].severity, flags[code].text) for code in codes if code in flags],
        "made": console.index.made(event.id),
        "newer": console.index.newer(event.id),
        "letters": console.index.letters(event.event_key),
        "codes": dead_letters.codes(),
        "places": await _places(console, event),
    }


async def _places(console: Console, event: IndexedEvent) -> dict[str, Any]:
    """Find where the event's resources are. What cannot be found out becomes a sentence on the page."""
    found: dict[str, Any] = {"problems": [], "delivered": [], "waiting": [], "tables": []}
    made = console.index.made(event.id)
    try:
        if console.index.deliveries.used:
            found["delivered"], found["waiting"] = await console.look_up(
                console.reading, lambda lookup: delivered(console.index, lookup.digests, event)
            )
    except KafkaAccessError as error:
        found["problems"].append(str(error))
    except web.HTTPServiceUnavailable as error:
        found["problems"].append(f"What was delivered is not known at the moment. {error.text}")
    try:
        types = [target.partition("/")[0] for target in made]
        found["tables"] = await asyncio.to_thread(tables_of, console.settings, types)
    except ConfigurationError as error:
        found["problems"].append(str(error))
    return found
