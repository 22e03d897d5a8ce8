"""``fhirline forget``: erasure of a patient."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.audit_option import As

if TYPE_CHECKING:
    from fhirline.streams.kafka.reader import Progress
    from fhirline.streams.operate.erasure.find import Found
    from fhirline.streams.operate.erasure.report import Report
    from fhirline.streams.step3_restore.block import Compartment

NOT_DONE = 1
"""Exit code where the patient is not erased."""


def register(app: typer.Typer) -> None:
    app.command("forget")(forget)


def forget(
    vendor: Annotated[str, typer.Option(help="The vendor whose patient it is")],
    tenant: Annotated[str, typer.Option(help="Tenant slug")],
    patient: Annotated[
        str,
        typer.Option(
            help="The vendor's own key: MediQuo patient code, Altibbi user_id, Azodha patientId, Infermedica patient "
            "id; - asks for it, or reads it from standard input: so it stands in no shell history"
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where no terminal is")] = False,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Block also a patient of whom there is nothing (else that is an error)")
    ] = False,
    lift: Annotated[
        bool, typer.Option("--lift", help="The other way: let the patient's events in again; brings nothing back")
    ] = False,
    settle: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds that workers are given to finish what they had in hand; default: what they may take"
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; goes into the audit event")] = None,
    name: As = None,
    export_report: Annotated[
        Path | None,
        typer.Option(help="Also write the report there as JSON, with the keys of all that was erased; mode 0600"),
    ] = None,
) -> None:
    """Erase a patient: tombstones for all resources, a DELETE Bundle, and a block that no replay gets past.

    Needs FHIRLINE_ERASURE_KEY. Workers may go on running. Run it again after a crash, or to be sure: it is harmless.
    What it cannot take away (raw events, until their retention ends) it says; see docs/erasure.md. The log has an audit
    event of who did it, which names the patient by the block's hash alone.

    Exit 0: nothing of the patient is left but what the report says. Exit 1: not erased: nothing is known of such a
    patient, or somebody goes on writing, or not all could be written, or the question was answered with no. Exit 2: a
    wrong argument or setting, a privilege that is missing, or Kafka does not answer.
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.worker import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.erasure.forget import Erasure
    from fhirline.streams.operate.erasure.report import lines
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    of = _compartment(vendor, tenant, _asked() if patient == "-" else patient)
    require_topics(settings, "operator")
    with _progress() as progress:
        erasure = Erasure(settings, of, progress)
        blocked = erasure.blocked()
        found = erasure.look()
    told = {"vendor": vendor, "tenant": tenant, "patient": erasure.digest, "reason": (reason or "").strip()}
    try:
        if lift:
            if blocked is None:
                print("fhirline forget: this patient is not erased; there is nothing to lift", file=sys.stderr)
                raise typer.Exit(NOT_DONE)
            if dry_run:
                print("Would be let in again. Nothing was done.")
                return
            _confirm("Map this patient's events again, from now on?", yes)
            audit("erasure lifted", by="forget", name=name, **told)
            erasure.lift(found)
            print("Let in again: what arrives from now on is mapped. What was passed over comes back by a replay only.")
            return
        _say_found(found, blocked is not None)
        if found.nothing and not (unknown or blocked):
            print(
                "fhirline forget: nothing is known of such a patient: is the key the vendor's own, and the tenant "
                "right? --unknown blocks it all the same",
                file=sys.stderr,
            )
            raise typer.Exit(NOT_DONE)
        if dry_run:
            print("Nothing was done.")
            return
        _confirm("Erase this patient? It cannot be undone.", yes)
        audit("patient erased", by="forget", name=name, **told)
        report = erasure.erase(found, settle, lambda line: print(line, flush=True))
    except PublishFailed as error:
        print(f"fhirline forget: {error}; not done yet: mend that, and run this again", file=sys.stderr)
        raise typer.Exit(NOT_DONE) from None
    finally:
        erasure.close()
    for line in lines(report, settings.compaction_days):
        print(line)
    if export_report is not None:
        _export(report, export_report)
    if not report.complete:
        print(
            f"fhirline forget: {report.left} records came back after each of {report.looks} looks: an older worker, or "
            "another writer, does not heed the block; end it and run this again",
            file=sys.stderr,
        )
        raise typer.Exit(NOT_DONE)


def _asked() -> str:
    """The patient's key from standard input; on a terminal it is asked for, and not shown while it is typed."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from getpass import getpass

    return getpass("patient key: ", sys.stderr)


def _compartment(vendor: str, tenant: str, patient: str) -> "Compartment":
    import re

    from fhirline.config.vendors import SLUG
    from fhirline.mappers.registry import VENDORS
    from fhirline.streams.step3_restore.block import Compartment

    if vendor not in VENDORS:
        raise ConfigurationError(f"--vendor: unknown vendor {vendor!r}; one of {', '.join(VENDORS)}")
    if not re.fullmatch(SLUG, tenant):
        raise ConfigurationError(f"--tenant: must match {SLUG}")
    if not patient.strip():
        raise ConfigurationError("--patient: is empty")
    return Compartment.of(vendor, tenant, patient.strip())


def _say_found(found: "Found", blocked: bool) -> None:
    of_types = ", ".join(f"{count} {name}" for name, count in sorted(found.by_type().items())) or "none"
    print(f"resources         {len(found.live)} ({of_types})")
    print(f"folds' memory     {len(found.state)} registers")
    print(f"raw events        {found.raw_records}")
    print(f"blocked already   {'yes' if blocked else 'no'}")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes: is needed where nobody can be asked")
    if not typer.confirm(question):
        raise typer.Exit(NOT_DONE)


def _export(report: "Report", to: Path) -> None:
    """The keys in it are pseudonyms of a person: for its owner's eyes only."""
    try:
        with open(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(report.document(), file, indent=2)
    except OSError as error:
        raise ConfigurationError(f"--export-report: {to}: {error.strerror}; the erasure itself is done") from None
    print(f"report            {to}")


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """Records read, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as shown:
        task, read = shown.add_task("reading"), 0

        def count(topic: str, records: int) -> None:
            nonlocal read
            read += records
            shown.update(task, description=f"{topic}: {read:,} records read")

        yield count
