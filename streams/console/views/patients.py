"""Show a patient's timeline once somebody gave a reason.

The vendor's key is in no URL, title or log line. The audit line has the Patient's id.
"""

from aiohttp import web

from fhirline.config import tables
from fhirline.streams.console import patients
from fhirline.streams.console.access import SESSION, reason_in
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.console.index_entries import MOST_LISTED
from fhirline.streams.console.rendering import page
from fhirline.streams.observe.audit import audit

routes = web.RouteTableDef()


@routes.get("/patients")
async def show_search(request: web.Request) -> web.StreamResponse:
    """Ask whom, and why."""
    return page(request, "patients.html", found=None, problem="", most=MOST_LISTED)


@routes.post("/patients")
async def show_timeline(request: web.Request) -> web.StreamResponse:
    """Show the timeline. It is audited before anything is shown."""
    console, form = request.app[CONSOLE], await request.post()
    reason = reason_in(form)
    try:
        sought = patients.SoughtPatient.parse(str(form.get("patient", "")).strip(), console.settings)
    except patients.NoPatient as error:
        return page(request, "patients.html", 422, found=None, problem=str(error), most=MOST_LISTED)
    console.searching.require_free()
    console.access.require_reveal()
    found = patients.known(console.index, sought)
    subject = found.reference or sought.references[0]
    person = request[SESSION].user
    audit("patient timeline shown", by="console", name=person, reason=reason, patient=subject)
    await console.searching.run(patients.read, console.settings, console.index, sought, found)
    severities = {code: flag.severity for code, flag in tables.flags().flags.items()}
    return page(
        request,
        "patients.html",
        found=found,
        by_key=sought.compartment is not None,
        problem="",
        severities=severities,
        complete=console.index.complete,
        most=MOST_LISTED,
    )
