"""The code tables: every row with its words, codes and evidence, and where a deployment's own rows override."""

import orjson
from aiohttp import web

import fhirline
from fhirline.config.terminology import Row, Terminology, load_terminology, overrides, packaged_table
from fhirline.mappers.conformance.concept_maps import concept_maps
from fhirline.mappers.conformance.definition import PREFIX, Deployment
from fhirline.mappers.conformance.guide import definitions_version
from fhirline.mappers.identity import Naming
from fhirline.mappers.results import Resource
from fhirline.streams.console.access import SESSION, reason_in
from fhirline.streams.console.console import CONSOLE, Console
from fhirline.streams.console.rendering import page
from fhirline.streams.console.table_use import NEWEST, table_use
from fhirline.streams.observe.audit import audit

routes = web.RouteTableDef()

MOST = 100
"""Event types and paths that are shown."""


@routes.get("/terminology")
async def show_tables(request: web.Request) -> web.StreamResponse:
    """List the tables."""
    settings = request.app[CONSOLE].settings
    own = overrides(settings.terminology_dir) if settings.terminology_dir else []
    names = load_terminology(settings.terminology_dir).names
    tables = [
        (name, table.title, table.version, len(table.rows), sum(override.table == name for override in own))
        for name in names
        if (table := packaged_table(name))
    ]
    vendors, chosen = request.app[CONSOLE].vendors.names, request.query.get("vendor", "")
    return page(request, "terminology.html", tables=tables, vendors=vendors, chosen=chosen, newest=NEWEST)


@routes.post("/terminology/use")
async def show_use(request: web.Request) -> web.StreamResponse:
    """Count what a vendor's newest events have that is not mapped, and the rows that they use.

    It shows words of stored events, and is audited.
    """
    console, form = request.app[CONSOLE], await request.post()
    vendor = str(form.get("vendor", ""))
    if vendor not in console.vendors.names:
        raise web.HTTPNotFound(text="There is no such vendor.\n")
    reason = reason_in(form)
    console.searching.require_free()
    console.access.require_reveal()
    audit(
        "words of events shown",
        by="console",
        name=request[SESSION].user,
        reason=reason,
        vendor=vendor,
        newest=str(NEWEST),
    )
    use = await console.searching.run(table_use, console.settings, vendor)
    return page(request, "terminology_use.html", vendor=vendor, use=use, most=MOST)


@routes.get(r"/terminology/{table:[a-z0-9_-]{1,80}}")
async def show_table(request: web.Request) -> web.StreamResponse:
    """Show a table's rows, those that contain the searched words."""
    settings, name = request.app[CONSOLE].settings, request.match_info["table"]
    terminology = load_terminology(settings.terminology_dir)
    if name not in terminology.names:
        raise web.HTTPNotFound(text="There is no such table.\n")
    search = request.query.get("q", "").strip()
    shipped = packaged_table(name).rows
    rows = list({id(row): row for row in terminology.rows(name).values()}.values())
    return page(
        request,
        "terminology_table.html",
        name=name,
        table=packaged_table(name),
        search=search,
        concept_map=_concept_map(request.app[CONSOLE], name),
        rows=[(row, row in shipped) for row in rows if search.casefold() in _text(row)],
    )


@routes.get(r"/terminology/{table:[a-z0-9_-]{1,80}}/concept-map")
async def send_concept_map(request: web.Request) -> web.StreamResponse:
    """Answer a table's ConceptMap, as ``fhirline conformance`` writes it."""
    name = request.match_info["table"]
    console = request.app[CONSOLE]
    known = name in load_terminology(console.settings.terminology_dir).names
    found = _concept_map(console, name) if known else None
    if found is None:
        raise web.HTTPNotFound(text="There is no such ConceptMap.\n")
    attached = {"Content-Disposition": f'attachment; filename="ConceptMap-{found["id"]}.json"'}
    return web.Response(body=orjson.dumps(found), content_type="application/fhir+json", headers=attached)


def _concept_map(console: Console, table: str) -> Resource | None:
    """Make a table's ConceptMap; None for a table whose rows have no codes."""
    settings = console.settings
    every = load_terminology(settings.terminology_dir)
    deployment = Deployment(
        Naming(settings.base, settings.server_base or ""),
        console.vendors,
        Terminology({table: every.rows(table)}),
        definitions_version(fhirline.__version__),
    )
    made = concept_maps(deployment)
    return next((item for item in made if item["id"] == f"{PREFIX}{table}" and "group" in item), None)


def _text(row: Row) -> str:
    codes = (f"{code.code} {code.display or ''}" for code in row.codings)
    means = (f"{name.replace('_', ' ')} {value}" for name, value in row.means.items())
    return " ".join((*row.source, *codes, *means)).casefold()
