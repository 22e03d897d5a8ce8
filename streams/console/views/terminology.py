"""The code tables: every row with its words, codes and evidence, and where a deployment's own rows override."""

import orjson
from aiohttp import web

from fhirline.config.terminology import Row, load_terminology, overrides, packaged_table
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.rendering import page

routes = web.RouteTableDef()


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
    return page(request, "terminology.html", tables=tables)


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
        rows=[(row, row in shipped, _means(row)) for row in rows if search.casefold() in _text(row)],
    )


def _means(row: Row) -> str:
    return orjson.dumps(dict(row.means)).decode() if row.means else ""


def _text(row: Row) -> str:
    codes = (f"{code.code} {code.display or ''}" for code in row.codings)
    return " ".join((*row.source, *codes, _means(row))).casefold()
