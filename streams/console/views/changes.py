"""Change review: replay runs, what each would change, and publishing, shadowing or discarding it."""

import re
from typing import Any

from aiohttp import web

from fhirline.config.terminology import load_terminology, overrides, packaged_table
from fhirline.config.vendors import SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.console.access import SESSION
from fhirline.streams.console.console import CONSOLE, REPLAY, Console
from fhirline.streams.console.jobs import send_updates
from fhirline.streams.console.rendering import page
from fhirline.streams.console.replays import Doing, Replay, options
from fhirline.streams.observe.audit import audit
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.difference import DIFFERING, Kind
from fhirline.streams.operate.replay.inputs import inputs_of
from fhirline.streams.operate.replay.kept_report import KeptReport
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.step3_restore.erasure_list import OtherKey
from fhirline.streams.step3_restore.erasure_list_feed import ErasedSince, ErasureListFeed
from fhirline.topics.declared import RESOURCE_TYPES

routes = web.RouteTableDef()

SHADOW = "shadow."
PREFIX = re.compile(r"[a-zA-Z0-9._-]{1,100}")
PATHS = 100
"""Paths, and changes of codes, that are shown per resource type."""
RUN = rf"/changes/{{id:{folders.ID.pattern}}}"


@routes.get("/changes")
async def show_runs(request: web.Request) -> web.StreamResponse:
    """List the runs, and offer to begin one."""
    return await _runs(request, {"vendor": "", "since": "", "until": "", "type": "", "tenant": ""}, "")


@routes.post("/changes")
async def begin_run(request: web.Request) -> web.StreamResponse:
    """Begin a run that compares."""
    console, sent = request.app[CONSOLE], await request.post()
    console.require_allowed(REPLAY)
    form = {name: str(sent.get(name, "")).strip() for name in ("vendor", "since", "until", "type", "tenant")}
    chosen = _selection(form)
    if isinstance(chosen, str):
        return await _runs(request, form, chosen)
    _require_none_running(console)
    audit("replay begun", by="console", name=request[SESSION].user, selection=chosen.describe())
    await console.replays.begin(Replay("compare", chosen.describe(), "", None), options(chosen))
    raise web.HTTPSeeOther("/changes/progress")


@routes.get("/changes/progress")
async def show_progress(request: web.Request) -> web.StreamResponse:
    """Show how far the replay is that the console began last, or how it ended."""
    console = request.app[CONSOLE]
    return page(request, "replay.html", **_progress(console))


@routes.get("/changes/progress/updates", allow_head=False)
async def send_progress(request: web.Request) -> web.StreamResponse:
    """Send the progress whenever it changes."""
    console = request.app[CONSOLE]
    return await send_updates(
        request, console.replays.current, lambda: page(request, "replay_progress.html", **_progress(console))
    )


@routes.post("/changes/progress/stop")
async def stop_replay(request: web.Request) -> web.StreamResponse:
    """Stop the replay after the batches that it is mapping."""
    console = request.app[CONSOLE]
    console.require_allowed(REPLAY)
    current = console.replays.current
    if current is not None and current.running:
        audit("replay stopped", by="console", name=request[SESSION].user, selection=current.about)
        console.replays.stop()
    raise web.HTTPSeeOther("/changes/progress")


@routes.get(RUN)
async def show_run(request: web.Request) -> web.StreamResponse:
    """Show what a run would change."""
    console = request.app[CONSOLE]
    run = await _run(request)
    kept = await console.reading.run(KeptReport.load, console.settings.replay_dir / run.id)
    terminology = load_terminology(console.settings.terminology_dir)
    now = inputs_of(console.settings)
    inputs = run.plan.inputs if run.plan else {}
    folder = console.settings.terminology_dir
    own = {override.table for override in overrides(folder)} if folder else set()
    versions = {
        f"table terminology/{name}.yaml": packaged_table(name).version + (", with own rows" if name in own else "")
        for name in terminology.names
    }
    if erased := await console.reading.run(_erased_since, console, run):
        kept = None  # its examples may be the patient's
    tallies = kept.report.types if kept else {}
    changing = [name for name in RESOURCE_TYPES if name in tallies and any(tallies[name].kinds[k] for k in DIFFERING)]
    return page(
        request,
        "change.html",
        run=run,
        kept=kept,
        erased=erased,
        types=[(name, tallies[name]) for name in changing],
        alike=[name for name in RESOURCE_TYPES if name in tallies and name not in changing],
        differing=kept.report.total(Kind.CHANGED) + kept.report.total(Kind.NEW) if kept else 0,
        all=sum(kept.report.total(kind) for kind in Kind) if kept else 0,
        kinds=tuple(Kind),
        kind_new=Kind.NEW,  # no event has made it yet: a link would find nothing
        inputs=[(name, inputs.get(name, ""), now.get(name, ""), versions.get(name, "")) for name in {**inputs, **now}],
        allowed=REPLAY in console.allowed,
        busy=console.replays.running,
        most=PATHS,
    )


@routes.get(RUN + "/{action:publish|shadow|discard|compare}")
async def confirm_action(request: web.Request) -> web.StreamResponse:
    """Say what an action would do. Nothing is done."""
    console, action = request.app[CONSOLE], request.match_info["action"]
    console.require_allowed(REPLAY)
    run = await _run(request, action)
    kept = await console.reading.run(KeptReport.load, console.settings.replay_dir / run.id)
    return page(request, "change_action.html", run=run, kept=kept, action=action, prefix=SHADOW, kinds=Kind)


@routes.post(RUN + "/discard")
async def discard_run(request: web.Request) -> web.StreamResponse:
    """Remove a run's folder."""
    console = request.app[CONSOLE]
    console.require_allowed(REPLAY)
    run = await _run(request, "discard")
    console.reading.require_free()
    audit("replay discarded", by="console", name=request[SESSION].user, run=run.id)
    await console.reading.run(folders.discard, console.settings.replay_dir, run.id)
    raise web.HTTPSeeOther("/changes")


@routes.post(RUN + "/{action:publish|compare}")
async def resume_run(request: web.Request) -> web.StreamResponse:
    """Publish what a run has found, or compare again."""
    console, form = request.app[CONSOLE], await request.post()
    console.require_allowed(REPLAY)
    action: Doing = "publish" if request.match_info["action"] == "publish" else "compare"
    run = await _run(request, action)
    assert run.plan is not None
    _require_none_running(console)
    arguments = [f"--resume={run.id}", "--publish" if action == "publish" else "--diff"]
    more = {name for name in ("tombstones", "bundles") if name in form and action == "publish"}
    arguments += [f"--{name}" for name in sorted(more)]
    done, also = ("replay published" if action == "publish" else "replay begun"), ", ".join(sorted(more)) or None
    audit(done, by="console", name=request[SESSION].user, run=run.id, also=also)
    about = run.plan.selection.describe()
    await console.replays.begin(Replay(action, about, run.plan.prefix, run.id), arguments)
    raise web.HTTPSeeOther("/changes/progress")


@routes.post(RUN + "/shadow")
async def shadow_run(request: web.Request) -> web.StreamResponse:
    """Map a run's events again, and publish to shadow topics."""
    console = request.app[CONSOLE]
    console.require_allowed(REPLAY)
    run = await _run(request, "shadow")
    assert run.plan is not None
    prefix = str((await request.post()).get("prefix", "")).strip()
    if not PREFIX.fullmatch(prefix):
        raise web.HTTPBadRequest(text="prefix: letters, digits, dots, hyphens and underscores, such as shadow.\n")
    _require_none_running(console)
    audit("replay published", by="console", name=request[SESSION].user, run=run.id, prefix=prefix)
    about = run.plan.selection.describe()
    arguments = [*options(run.plan.selection), f"--to-prefix={prefix}", "--publish"]
    await console.replays.begin(Replay("publish", about, prefix, None), arguments)
    raise web.HTTPSeeOther("/changes/progress")


async def _runs(request: web.Request, form: dict[str, str], problem: str) -> web.Response:
    console = request.app[CONSOLE]
    settings = console.settings
    found = await console.reading.run(lambda: [*folders.kept(settings.replay_dir, inputs_of(settings))])
    types = {vendor: sorted(vendor_mapping(vendor).events) for vendor in VENDORS}
    return page(
        request,
        "changes.html",
        422 if problem else 200,
        runs=found[::-1],
        form=form,
        problem=problem,
        types=types,
        replay=console.replays.current,
        allowed=REPLAY in console.allowed,
        busy=console.replays.running,
    )


def _selection(form: dict[str, str]) -> Selection | str:
    """Make the selection, or say what is wrong with the form."""
    vendor, tenant, name = form["vendor"], form["tenant"], form["type"]
    if vendor and vendor not in VENDORS:
        return f"The vendor is none of {', '.join(VENDORS)}."
    if tenant and not re.fullmatch(SLUG, tenant):
        return "The tenant is no slug: lower-case letters, digits and hyphens."
    vendors = (vendor,) if vendor else VENDORS
    having = tuple(each for each in vendors if not name or name in vendor_mapping(each).events)
    if not having:
        return f"{vendor or 'No vendor'} has no such event type."
    times = [Instant.parse(form[side]) if form[side] else None for side in ("since", "until")]
    if any(form[side] and at is None for side, at in zip(("since", "until"), times, strict=True)):
        return "A time is no RFC 3339 instant with a zone, such as 2026-01-31T12:00:00Z."
    since, until = times
    if since is not None and until is not None and not since < until:
        return "Until is not later than since: nothing is selected."
    return Selection(
        having,
        tenant or None,
        form["since"] or None,
        form["until"] or None,
        event_types=(name,) if name else (),
    )


async def _run(request: web.Request, action: str = "") -> folders.KeptRun:
    """Find the run that a request names, which must be such that ``action`` can be done with it."""
    console, id = request.app[CONSOLE], request.match_info["id"]
    settings = console.settings
    run = await console.reading.run(lambda: folders.kept_run(settings.replay_dir, id, inputs_of(settings)))
    if run is None:
        raise web.HTTPNotFound(text="There is no such run: it was published or discarded, or it found no difference.\n")
    if action and run.in_use:
        raise web.HTTPConflict(text=f"Run {id} is in use by another process.\n")
    if action not in ("", "discard"):
        if await console.reading.run(_erased_since, console, run):
            raise web.HTTPConflict(text="A patient was erased since the run began. It can only be discarded.\n")
        if run.plan is None:
            raise web.HTTPConflict(text=f"Run {id} is damaged, or of another release. It can only be discarded.\n")
        if run.differing and action != "shadow":
            changed = ", ".join(run.differing)
            raise web.HTTPConflict(text=f"Since run {id} began, this has changed: {changed}. Begin a new one.\n")
        if action == "shadow" and (run.plan.selection.patient or run.plan.prefix):
            raise web.HTTPConflict(text="A run of one patient, or of shadow topics, has no shadow from here.\n")
    return run


def _erased_since(console: Console, run: folders.KeptRun) -> bool:
    """Tell whether a patient was erased, or let in again, since the run began. Without the erasure key nobody can."""
    if run.plan is None:
        return False
    feed = ErasureListFeed(console.settings)
    try:
        feed.require_unchanged(run.plan.erased)
    except ErasedSince:
        return True
    except OtherKey:
        return False
    finally:
        feed.close()
    return False


def _progress(console: Console) -> dict[str, Any]:
    return {"replay": console.replays.current, "allowed": REPLAY in console.allowed}


def _require_none_running(console: Console) -> None:
    if console.replays.running:
        raise web.HTTPConflict(text="Another replay of this console is running. Wait until it has ended.\n")
