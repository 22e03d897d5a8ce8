"""``fhirline deliver waiting`` and ``deliver resume``, which ``dead-letters --delivery`` also calls."""

from typing import Annotated, Any

import typer

from fhirline.config.exit_codes import NOT_FOUND
from fhirline.config.settings import load_settings
from fhirline.streams.cli.options import As, AsJson
from fhirline.streams.cli.output import confirm, require_answer
from fhirline.streams.observe.terminal import counted


def waiting(
    as_json: AsJson = False,
    code: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Only what waits for this reason; may be repeated.")
    ] = None,
) -> None:
    """Print the Bundles that wait: where they are, whose they are, and why. Ids only.

    Exit codes:

    * 0: printed.
    * 2: a wrong setting, a missing topic or privilege, or a cluster that does not answer.
    """
    import orjson

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.deliveries.waiting import read_waiting

    settings = load_settings()
    require_topics(settings)
    found: list[dict[str, Any]] = [
        {
            "bundle": f"fhir.r4.bundle/{state.partition}/{entry.offset}" if entry.owner is None else "fhir.r4.* topics",
            "patients": sorted(entry.patients),
            "code": entry.code,
            "refused": entry.refused,
            "resources": len(entry.keys),
        }
        for state in read_waiting(settings)
        for entry in sorted(state.waiting.values(), key=lambda item: item.offset)
        if not code or entry.code in code
    ]
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    for item in found:
        why = item["code"] if item["refused"] else "behind a Bundle that waits"
        typer.echo(f"{item['bundle']}  {', '.join(item['patients'])}  {why}")
    typer.echo(f"{len(found)} waiting")


def resume(
    patient: Annotated[
        list[str] | None, typer.Option(metavar="Patient/ID", help="Whose Bundles are sent; may be repeated.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Send what waits for any patient.")] = False,
    name: As = None,
) -> None:
    """Order that what waits for a patient is sent, with the current values of its resources.

    A running `fhirline deliver` begins within seconds, another one when it starts. What the server refuses again keeps
    waiting. An audit event in the log states who ordered it.

    Exit codes:

    * 0: ordered.
    * 1: nothing waits for such a patient.
    * 2: a wrong argument or setting, a missing topic or privilege, or a cluster that does not answer.
    """
    from fhirline.config.errors import ConfigurationError
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.deliveries.waiting import order_resumption, read_waiting

    if bool(patient) == everyone:
        raise ConfigurationError("deliver resume: give either --patient Patient/ID or --all")
    settings = load_settings()
    configure_logging(settings)
    require_topics(settings)
    states = read_waiting(settings)
    asked = None if everyone else set(patient or ())
    waiting_for = {one for state in states for found in state.waiting.values() for one in found.patients}
    patients = waiting_for if asked is None else waiting_for & asked
    if patients:
        one = next(iter(patients)) if asked is not None and len(patients) == 1 else None
        audit("waiting Bundles resumed", by="deliver", name=name, patients=str(len(patients)), patient=one)
    ordered = order_resumption(settings, states, patients)
    typer.echo(f"{ordered} ordered")
    if not ordered:
        raise typer.Exit(NOT_FOUND)


def resume_refused(codes: list[str] | None, dry_run: bool, yes: bool, name: str | None) -> None:
    """Order that what the FHIR server refused for one of ``codes`` (None: for any reason) is sent, after a question.

    ``name``: of the person who orders it, for the audit event.
    """
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.deliveries.waiting import order_resumption, read_waiting

    if not dry_run:
        require_answer(yes)
    settings = load_settings()
    configure_logging(settings)
    require_topics(settings)
    states = read_waiting(settings)
    refused = [
        patient
        for state in states
        for found in state.waiting.values()
        for patient in found.patients
        if not codes or found.code in codes
    ]
    patients = sorted(set(refused))
    if dry_run:
        print(f"{counted(len(patients), 'patient')} would be resumed; nothing was")
        return
    if not patients:
        print("Nothing to send.")
        return
    confirm(f"Send what waits for {counted(len(patients), 'patient')} to the FHIR server again?", yes)
    code = ", ".join(sorted(set(codes or ()))) or None
    audit("waiting Bundles resumed", by="dead-letters", name=name, patients=str(len(patients)), code=code)
    ordered = order_resumption(settings, states, patients)
    print(
        f"{ordered} ordered; a running `fhirline deliver` sends them, and `fhirline deliver waiting` shows what remains"
    )
