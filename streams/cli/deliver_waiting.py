"""``fhirline deliver waiting`` and ``deliver resume``, which ``dead-letters --delivery`` also calls."""

from typing import Annotated, Any

import typer

from fhirline.config.exit_codes import NOT_FOUND
from fhirline.config.settings import load_settings
from fhirline.streams.cli.options import AsJson
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
) -> None:
    """Order that what waits for a patient is sent, with the current values of its resources.

    A running `fhirline deliver` begins within seconds, another one when it starts. What the server refuses again keeps
    waiting.

    Exit codes:

    * 0: ordered.
    * 1: nothing waits for such a patient.
    * 2: a wrong argument or setting, a missing topic or privilege, or a cluster that does not answer.
    """
    from fhirline.config.errors import ConfigurationError
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.deliveries.waiting import order_resumption, read_waiting

    if bool(patient) == everyone:
        raise ConfigurationError("deliver resume: give either --patient Patient/ID or --all")
    settings = load_settings()
    require_topics(settings)
    ordered = order_resumption(settings, read_waiting(settings), None if everyone else patient)
    typer.echo(f"{ordered} ordered")
    if not ordered:
        raise typer.Exit(NOT_FOUND)


def resume_refused(codes: list[str] | None, dry_run: bool, yes: bool) -> None:
    """Order that what the FHIR server refused for one of ``codes`` (None: for any reason) is sent, after a question."""
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.deliveries.waiting import order_resumption, read_waiting

    if not dry_run:
        require_answer(yes)
    settings = load_settings()
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
    ordered = order_resumption(settings, states, patients)
    print(
        f"{ordered} ordered; a running `fhirline deliver` sends them, and `fhirline deliver waiting` shows what remains"
    )
