"""The playground: a body in, its resources out, as one types. Nothing of it is stored or logged."""

import re
from functools import cache
from typing import Any

import orjson
from aiohttp import web

from fhirline.config import tables
from fhirline.config.errors import FhirlineError
from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import UnreadableBody, open_envelope
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.lineage import lineage
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from fhirline.mappers.registry import VENDORS, open_without_receipt, vendor_mapping
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.json_lines import resource_lines
from fhirline.streams.console.rendering import page
from fhirline.streams.demo.webhooks import Sample, samples

routes = web.RouteTableDef()
"""``fhirline map`` with the same input prints the same bytes as /playground/bundle answers."""


class Unmapped(FhirlineError):
    """The body cannot be mapped. The message says why, and repeats nothing of it."""


@routes.get("/playground")
async def show_playground(request: web.Request) -> web.StreamResponse:
    """Show the form, with a sample if one is chosen."""
    chosen = _samples().get(request.query.get("sample", ""))
    form = {
        "vendor": chosen.vendor if chosen else VENDORS[0],
        "tenant": DEFAULT_TENANT,
        "event": chosen.route.strip("/") if chosen else "",
        "received": "",
        "body": orjson.dumps(chosen.body, option=orjson.OPT_INDENT_2).decode() if chosen else "",
    }
    return _playground(request, "playground.html", form, {})


@routes.post("/playground")
async def map_body(request: web.Request) -> web.StreamResponse:
    """Map the form's body: the whole page, or with ``part`` what changes of it."""
    form = _form(await request.post())
    result = await request.app[CONSOLE].map(_mapped, request.app[CONSOLE], form)
    template = "playground_result.html" if "part" in request.query else "playground.html"
    return _playground(request, template, form, result)


@routes.post("/playground/bundle")
async def send_bundle(request: web.Request) -> web.StreamResponse:
    """Answer the Bundle alone, byte for byte as ``fhirline map`` prints it."""
    form = _form(await request.post())
    try:
        _, result = await request.app[CONSOLE].map(_normalized, request.app[CONSOLE], form)
    except Unmapped as error:
        raise web.HTTPUnprocessableEntity(text=f"{error}\n") from None
    value = result.bundle.value + b"\n" if result.bundle else b""
    return web.Response(body=value, content_type="application/fhir+json")


@cache
def _samples() -> dict[str, Sample]:
    """Return the demo's webhooks by vendor and event, the first of each."""
    found: dict[str, Sample] = {}
    for sample in samples():
        found.setdefault(f"{sample.vendor} {sample.event}", sample)
    return found


def _form(sent: Any) -> dict[str, str]:
    names = ("vendor", "tenant", "event", "received", "body")
    return {name: str(sent.get(name, "")) for name in names} | ({"sources": "on"} if "sources" in sent else {})


def _playground(request: web.Request, template: str, form: dict[str, str], result: dict[str, Any]) -> web.Response:
    events = {vendor: sorted(vendor_mapping(vendor).events) for vendor in VENDORS}
    return page(request, template, vendors=VENDORS, events=events, form=form, result=result, samples=_samples())


def _normalized(console: Console, form: dict[str, str]) -> tuple[Any, Normalized]:
    """Map the body. Raises Unmapped."""
    vendor, tenant, event = form["vendor"], form["tenant"], form["event"] or None
    if vendor not in VENDORS:
        raise Unmapped(f"The vendor is none of {', '.join(VENDORS)}.")
    if not re.fullmatch(SLUG, tenant):
        raise Unmapped("The tenant is no slug: lower-case letters, digits and hyphens.")
    received = Instant.parse(form["received"]) if form["received"] else None
    if form["received"] and received is None:
        raise Unmapped("The time of receipt is no RFC 3339 instant, such as 2026-01-31T12:00:00Z.")
    body = form["body"].replace("\r\n", "\n").encode("utf-8", "surrogatepass")
    try:
        envelope = (
            open_envelope(vendor, tenant, body, received, event)
            if received
            else open_without_receipt(vendor, tenant, body, event)
        )
        return envelope, build_normalizer(console.settings)(envelope, InMemoryState())
    except UnreadableBody as error:
        raise Unmapped(f"The body cannot be read: {error} ({error.code}).") from None
    except TooComplex as error:
        raise Unmapped(f"The event is too complex: {error}.") from None


def _mapped(console: Console, form: dict[str, str]) -> dict[str, Any]:
    try:
        envelope, result = _normalized(console, form)
    except Unmapped as error:
        return {"problem": str(error)}
    found: dict[tuple[str, str], str] = {}
    if "sources" in form:
        leaves = lineage(build_normalizer(console.settings), envelope, InMemoryState())
        found = {(leaf.resource, leaf.path): leaf.source for leaf in leaves}
    flags = tables.flags().flags
    at: dict[str, set[str]] = {}
    for flag in result.flags:
        at.setdefault(flag.code, set()).update(flag.at)
    bundle = orjson.loads(result.bundle.value) if result.bundle else {}
    return {
        "problem": "",
        "event_type": result.event_type,
        "resources": resource_lines(bundle, found),
        "flags": [(code, flags[code].severity, flags[code].text, sorted(places)) for code, places in at.items()],
        "refusals": [
            (refusal.resource_type, refusal.code, [(problem.path, problem.code) for problem in refusal.problems])
            for refusal in result.refusals
        ],
        "ledger": [(leaf.treatment, leaf.pointer, leaf.rule) for leaf in result.ledger.notable],
        "words": result.unmapped_at,
        "drift": result.schema_drift,
    }
