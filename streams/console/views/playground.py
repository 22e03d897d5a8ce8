"""The playground: a body in, its resources out, as one types. Nothing of it is stored or logged."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from fhirline.config import tables
from fhirline.config.errors import FhirlineError
from fhirline.config.terminology import SUFFIX, load_terminology
from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, open_envelope
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.lineage import lineage
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer
from fhirline.mappers.registry import VENDORS, open_without_receipt, vendor_mapping
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.json_lines import resource_lines
from fhirline.streams.console.rendering import page
from fhirline.streams.console.time_limit import SOURCES_GIVEN_UP, SOURCES_SECONDS, TookTooLong, time_limit
from fhirline.streams.console.tried_tables import (
    opened,
    terminology_with,
    texts_in,
    with_draft,
    word_at,
    words_without_a_row,
)
from fhirline.streams.demo.webhooks import Sample, samples
from fhirline.streams.operate.terminology.missing import Word

routes = web.RouteTableDef()
"""``fhirline map`` with the same input prints the same bytes as /playground/bundle answers."""


class Unmapped(FhirlineError):
    """The body cannot be mapped. The message says why, and repeats nothing of it."""


Form = dict[str, Any]
"""The form's fields; ``tables``: name → text of the code tables that are tried."""


@routes.get("/playground")
async def show_playground(request: web.Request) -> web.StreamResponse:
    """Show the form, with a sample, or what another page has chosen: vendor, event type, tenant and code table."""
    console, query = request.app[CONSOLE], request.query
    vendor = query.get("vendor", "")
    chosen = _samples().get(query.get("sample") or f"{vendor} {query.get('type', '')}")
    table = query.get("table", "")
    form: Form = {
        "vendor": chosen.vendor if chosen else vendor if vendor in VENDORS else VENDORS[0],
        "tenant": query.get("tenant", DEFAULT_TENANT),
        "event": chosen.route.strip("/") if chosen else "",
        "received": "",
        "body": orjson.dumps(chosen.body, option=orjson.OPT_INDENT_2).decode() if chosen else "",
        "tables": opened(console.settings, {}, table) if table in _tables(console) else {},
    }
    return _playground(request, "playground.html", form, {})


@routes.post("/playground")
async def map_body(request: web.Request) -> web.StreamResponse:
    """Map the form's body: the whole page, or with ``part`` what changes of it.

    The form's other buttons open a code table, draft a row for a word of the body, or leave a table out again.
    """
    console, sent = request.app[CONSOLE], await request.post()
    form = _form(console, sent)
    table = str(sent.get("table", ""))
    if "open" in sent and table in _tables(console):
        form["tables"] = opened(console.settings, form["tables"], table)
    form["tables"].pop(str(sent.get("leave-out", "")), None)
    if draft := str(sent.get("draft", "")):
        form["tables"] = await console.mapping.run(_with_draft, console, form, draft)
    rows_alone = not form["body"].strip() and "part" not in request.query  # of the page that counts words
    threads = console.searching if "sources" in form else console.mapping
    result = {} if rows_alone else await threads.run(_mapped, console, form, lambda: request.transport is not None)
    template = "playground_result.html" if "part" in request.query else "playground.html"
    return _playground(request, template, form, result)


@routes.post("/playground/bundle")
async def send_bundle(request: web.Request) -> web.StreamResponse:
    """Answer the Bundle alone, byte for byte as ``fhirline map`` prints it."""
    console = request.app[CONSOLE]
    form = _form(console, await request.post())
    try:
        _, _, result, problems = await console.mapping.run(_normalized, console, form)
    except Unmapped as error:
        raise web.HTTPUnprocessableEntity(text=f"{error}\n") from None
    if problems:
        raise web.HTTPUnprocessableEntity(text=f"{next(iter(problems.values()))}\n")
    value = result.bundle.value + b"\n" if result.bundle else b""
    return web.Response(body=value, content_type="application/fhir+json")


@routes.post(r"/playground/tables/{table:[a-z0-9-]{1,80}}.yaml")
async def send_table(request: web.Request) -> web.StreamResponse:
    """Answer a tried table as the file to put into the deployment's folder. Nothing is written here."""
    console, table = request.app[CONSOLE], request.match_info["table"]
    text = _form(console, await request.post())["tables"].get(table)
    if text is None:
        raise web.HTTPNotFound(text="The form has no rows of such a table.\n")
    name = {"Content-Disposition": f'attachment; filename="{table}{SUFFIX}"'}
    return web.Response(text=text, content_type="application/yaml", charset="utf-8", headers=name)


@cache
def _samples() -> dict[str, Sample]:
    """Return the demo's webhooks by vendor and event, the first of each."""
    found: dict[str, Sample] = {}
    for sample in samples():
        found.setdefault(f"{sample.vendor} {sample.event}", sample)
    return found


def _tables(console: Console) -> tuple[str, ...]:
    return load_terminology(console.settings.terminology_dir).names


def _form(console: Console, sent: Any) -> Form:
    names = ("vendor", "tenant", "event", "received", "body")
    form: Form = {name: str(sent.get(name, "")) for name in names}
    form["tables"] = texts_in(sent, _tables(console))
    return form | ({"sources": "on"} if "sources" in sent else {})


def _playground(request: web.Request, template: str, form: Form, result: dict[str, Any]) -> web.Response:
    return page(
        request,
        template,
        vendors=VENDORS,
        events={vendor: sorted(vendor_mapping(vendor).events) for vendor in VENDORS},
        form=form,
        result=result,
        samples=_samples(),
        tables=_tables(request.app[CONSOLE]),
    )


def _with_draft(console: Console, form: Form, draft: str) -> dict[str, str]:
    """Return the form's tables with a row for a word: ``draft`` is its table and pointer."""
    table, _, pointer = draft.partition(" ")
    texts: dict[str, str] = form["tables"]
    try:
        word = word_at(_envelope(form).body, pointer)
    except Unmapped:
        return texts
    if table not in _tables(console) or word is None:
        return texts
    return with_draft(console.settings, texts, Word(table, word, 1, 1))


def _envelope(form: Form) -> Envelope:
    """Read the body. Raises Unmapped."""
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
        if received:
            return open_envelope(vendor, tenant, body, received, event)
        return open_without_receipt(vendor, tenant, body, event)
    except UnreadableBody as error:
        raise Unmapped(f"The body cannot be read: {error} ({error.code}).") from None


class Mapped(NamedTuple):
    """A mapped body. ``problems``: table → why its rows were not used."""

    envelope: Envelope
    normalizer: Normalizer
    result: Normalized
    problems: dict[str, str]


def _normalized(console: Console, form: Form) -> Mapped:
    """Map the body with the form's code tables. Raises Unmapped."""
    envelope = _envelope(form)
    terminology, problems = terminology_with(console.settings, form["tables"])
    normalizer = replace(build_normalizer(console.settings), terminology=terminology)
    try:
        return Mapped(envelope, normalizer, normalizer(envelope, InMemoryState()), problems)
    except TooComplex as error:
        raise Unmapped(f"The event is too complex: {error}.") from None


def _mapped(console: Console, form: Form, waited_for: Callable[[], bool]) -> dict[str, Any]:
    """Map the form's body. Return nothing where the browser has cancelled the request, for a newer text."""
    if not waited_for():
        return {}
    try:
        envelope, normalizer, result, problems = _normalized(console, form)
    except Unmapped as error:
        return {"problem": str(error)}
    found: dict[tuple[str, str], str] = {}
    given_up = ""
    if "sources" in form:
        try:
            leaves = lineage(normalizer, envelope, InMemoryState(), time_limit(SOURCES_SECONDS, waited_for))
            found = {(leaf.resource, leaf.path): leaf.source for leaf in leaves}
        except TookTooLong:
            given_up = SOURCES_GIVEN_UP
    flags = tables.flags().flags
    at: dict[str, set[str]] = {}
    for flag in result.flags:
        at.setdefault(flag.code, set()).update(flag.at)
    bundle = orjson.loads(result.bundle.value) if result.bundle else {}
    return {
        "problem": "",
        "given_up": given_up,
        "event_type": result.event_type,
        "resources": resource_lines(bundle, found),
        "flags": [(code, flags[code].severity, flags[code].text, sorted(places)) for code, places in at.items()],
        "refusals": [
            (refusal.resource_type, refusal.code, [(problem.path, problem.code) for problem in refusal.problems])
            for refusal in result.refusals
        ],
        "ledger": [(leaf.treatment, leaf.pointer, leaf.rule) for leaf in result.ledger.notable],
        "table_problems": problems,
        "words": words_without_a_row(result.unmapped_at, envelope.body, normalizer.terminology, form["tables"]),
        "drift": result.schema_drift,
    }
