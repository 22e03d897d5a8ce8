"""Patients who wait for the FHIR server: why, what to do, and the order to send what waits."""

import re
from collections.abc import Collection
from typing import Any

from aiohttp import web

from fhirline.streams.console.access import SESSION
from fhirline.streams.console.console import CONSOLE, REDRIVE, Console
from fhirline.streams.console.index_entries import MOST_LISTED
from fhirline.streams.console.parked import WaitingPatient, refusal_of, waiting_patients
from fhirline.streams.console.rendering import page
from fhirline.streams.deliver.sending import CODES
from fhirline.streams.observe.audit import audit
from fhirline.streams.operate.deliveries.waiting import order_resumption

routes = web.RouteTableDef()


@routes.get("/dead-letters/waiting")
async def show_waiting(request: web.Request) -> web.StreamResponse:
    """List the patients whose Bundles wait."""
    console = request.app[CONSOLE]
    chosen = _chosen(request.query)
    found = _patients(console, chosen)
    ordered = request.query.get("ordered", "")
    return page(
        request,
        "waiting.html",
        chosen=chosen,
        patients=[(patient, refusal_of(console.index.deliveries, patient)) for patient in found[:MOST_LISTED]],
        total=len(found),
        bundles=_bundles(found),
        codes=CODES,
        ordered=int(ordered) if re.fullmatch(r"\d{1,9}", ordered, re.ASCII) else None,
        complete=console.index.complete,
        used=console.index.deliveries.used,
        allowed=REDRIVE in console.allowed,
    )


@routes.get("/dead-letters/waiting/resume")
async def confirm_resumption(request: web.Request) -> web.StreamResponse:
    """Say what would be sent. Nothing is ordered."""
    console, chosen = request.app[CONSOLE], _chosen(request.query)
    console.require_allowed(REDRIVE)
    found = _patients(console, chosen)
    erasures = sum(patient.erases for patient in found)
    return page(request, "resume.html", chosen=chosen, total=len(found), bundles=_bundles(found), erasures=erasures)


@routes.post("/dead-letters/waiting/resume")
async def order(request: web.Request) -> web.StreamResponse:
    """Order that waiting Bundles are sent, as ``fhirline deliver resume`` does."""
    console, chosen = request.app[CONSOLE], _chosen(await request.post())
    console.require_allowed(REDRIVE)
    found = _patients(console, chosen)
    if not found:
        raise web.HTTPConflict(text="Nothing waits any more: it was sent meanwhile, or its patient was erased.\n")
    console.reading.require_free()
    audit(
        "waiting Bundles resumed",
        by="console",
        name=request[SESSION].user,
        patients=str(len(found)),
        patient=chosen["patient"] or None,
        code=chosen["code"] or None,
    )
    patients = {patient.patient for patient in found}
    states = console.index.deliveries.partitions()
    ordered = await console.reading.run(order_resumption, console.settings, states, patients)
    raise web.HTTPSeeOther(f"/dead-letters/waiting?ordered={ordered}")


def _chosen(sent: Any) -> dict[str, str]:
    chosen = {name: str(sent.get(name, "")) for name in ("patient", "code")}
    if chosen["code"] and chosen["code"] not in CODES:
        raise web.HTTPBadRequest(text=f"code: none of {', '.join(CODES)}.\n")
    return chosen


def _patients(console: Console, chosen: dict[str, str]) -> list[WaitingPatient]:
    codes = (chosen["code"],) if chosen["code"] else ()
    found = waiting_patients(console.index.deliveries, codes)
    return [one for one in found if not chosen["patient"] or one.patient == chosen["patient"]]


def _bundles(found: Collection[WaitingPatient]) -> int:
    return len({(item.partition, item.waiting.name) for patient in found for item in patient.items})
