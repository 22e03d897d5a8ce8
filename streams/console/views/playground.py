"""The playground, which maps a body while it is typed. Nothing of it is stored or logged."""

from functools import cache
from typing import Any

import orjson
from aiohttp import web

from fhirline.config.terminology import SUFFIX, load_terminology
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.console.access import page_of
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.rendering import page
from fhirline.streams.console.tried_body import Form, Unmapped, drafted_tables, mapped, normalized
from fhirline.streams.console.tried_tables import (
    opened,
    texts_in,
)
from fhirline.streams.demo.webhooks import Sample, samples

routes = web.RouteTableDef()


@routes.get("/playground")
async def show_playground(request: web.Request) -> web.StreamResponse:
    """Show the form, with a sample and what it becomes, or what another page has chosen.

    That is a vendor, an event type, a tenant or a code table.
    """
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
    result = await console.mapping.run(mapped, console, form, lambda: True) if chosen else {}
    return _playground(request, "playground.html", form, result)


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
        form["tables"] = await console.mapping.run(drafted_tables, console, form, draft)
    rows_alone = not form["body"].strip() and "part" not in request.query  # of the page that counts words
    threads = console.searching if "sources" in form else console.mapping
    result = {} if rows_alone else await threads.run(mapped, console, form, lambda: request.transport is not None)
    template = "playground_result.html" if "part" in request.query else "playground.html"
    return _playground(request, template, form, result)


@routes.post("/playground/bundle")
async def send_bundle(request: web.Request) -> web.StreamResponse:
    """Answer the Bundle alone, byte for byte as ``fhirline map`` prints it."""
    console = request.app[CONSOLE]
    form = _form(console, await request.post())
    try:
        _, _, result, problems = await console.mapping.run(normalized, console, form)
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
        form_page=page_of(request) if request.method in ("GET", "HEAD") else "/playground",
        vendors=VENDORS,
        events={vendor: sorted(vendor_mapping(vendor).events) for vendor in VENDORS},
        form=form,
        result=result,
        samples=_samples(),
        tables=_tables(request.app[CONSOLE]),
    )
