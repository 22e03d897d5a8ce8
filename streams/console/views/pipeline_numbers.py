"""The pages that the pipeline's numbers lead to, where these are not events: partitions, topics, groups, latencies."""

from aiohttp import web

from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.index_entries import LATEST
from fhirline.streams.console.live import EVERY
from fhirline.streams.console.rendering import page
from fhirline.streams.operate.status.reading import Reading
from fhirline.streams.operate.status.summary import Status, members_of, newest_of, partitions_of
from fhirline.streams.operate.status.warehouse import lags_by_topic

routes = web.RouteTableDef()


@routes.get("/pipeline/partitions")
async def show_partitions(request: web.Request) -> web.StreamResponse:
    """Show where the records of a topic are, which came last, and which of them a group has yet to take."""
    status, now, before = _read(request)
    topic, group = request.query.get("topic", ""), request.query.get("group", "")
    inflow = next((inflow for inflow in status.inflows if (inflow.topic, inflow.group) == (topic, group)), None)
    if inflow is None:
        raise web.HTTPNotFound(text="No group reads such a topic here.\n")
    return page(
        request,
        "partitions.html",
        inflow=inflow,
        rows=partitions_of(now, topic, group, before),
        newest=newest_of(now, topic),
        seconds=None if before is None else now.seconds - before.seconds,
        status=status,
    )


@routes.get("/pipeline/topics")
async def show_topics(request: web.Request) -> web.StreamResponse:
    """Show how many records each canonical topic has, and how many of each topic the SQL tables have yet to read."""
    status, now, _ = _read(request)
    known = status.tables is not None and not status.tables.problem
    lags = lags_by_topic(status.tables.positions, now.ends) if known and status.tables else None
    return page(request, "pipeline_topics.html", status=status, lags=lags)


@routes.get("/pipeline/group")
async def show_group(request: web.Request) -> web.StreamResponse:
    """Show the processes of a consumer group, and which of its partitions have none."""
    status, now, _ = _read(request)
    name = request.query.get("name", "")
    members = next((members for members in status.members if members.group.name == name), None)
    if members is None:
        raise web.HTTPNotFound(text="There is no such group here.\n")
    return page(request, "pipeline_group.html", members=members, rows=members_of(now, status, name))


@routes.get("/pipeline/latency")
async def show_latencies(request: web.Request) -> web.StreamResponse:
    """Show the events whose latencies the pipeline has the median of, the slowest first."""
    vendor, type_ = request.query.get("vendor", ""), request.query.get("type", "")
    events = request.app[CONSOLE].index.listing.slowest(vendor, type_)
    if not events:
        raise web.HTTPNotFound(text="The index has no latency of such an event.\n")
    return page(request, "pipeline_latency.html", vendor=vendor, type=type_, events=events, most=LATEST)


def _read(request: web.Request) -> tuple[Status, Reading, Reading | None]:
    """Return the last reading, and the one before that its rates are counted from.

    Raises HTTPServiceUnavailable until there is one.
    """
    live = request.app[CONSOLE].live
    if live.status is None or live.reading is None:
        text = "The cluster has not been read yet. Load the page again in a moment.\n"
        raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": f"{EVERY:.0f}"})
    return live.status, live.reading, live.before
