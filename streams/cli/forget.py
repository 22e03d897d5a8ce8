"""``fhirline forget``: erasure of a patient."""

import json
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.exit_codes import INCOMPLETE, NOT_ERASED
from fhirline.config.private_files import make_private, open_private
from fhirline.streams.cli.errors import CommandFailed, failing_with, warn
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import As, DryRun, Yes, from_options, known_vendors, slug
from fhirline.streams.cli.output import confirm, counting, progress, require_answer
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.operate.erasure.forget import Erasure
    from fhirline.streams.operate.erasure.found import Found
    from fhirline.streams.operate.erasure.report import Report
    from fhirline.streams.step3_restore.erasure_list import Compartment


AGAIN = "not done yet: fix that, and run this again"


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """The options of the command: whose data to erase, how, and why."""

    vendor: Annotated[str, typer.Option(help="The patient's vendor.")]
    tenant: Annotated[str, typer.Option(help="Tenant slug.")]
    patient: Annotated[
        str,
        typer.Option(
            help="The vendor's own key: MediQuo patient code, Altibbi user_id, Azodha patientId, Infermedica patient "
            "id. - asks for it, or reads it from a pipe, and so keeps it out of the shell's history."
        ),
    ]
    dry_run: DryRun = False
    yes: Yes = False
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Block a patient of whom nothing is found. Otherwise that is an error.")
    ] = False
    lift: Annotated[
        bool,
        typer.Option("--lift", help="Remove the block instead: later events are mapped again. Restores no data."),
    ] = False
    settle: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds that workers get to finish what they have read. Default: the longest that they may take.",
        ),
    ] = None
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The reason, for the audit event. Required, except with --dry-run."),
    ] = None
    name: As = None
    export_report: Annotated[
        Path | None,
        typer.Option(help="Also write the report as JSON, with the keys of all erased resources, with mode 0600."),
    ] = None

    def check(self) -> None:
        """Raise ConfigurationError where an erasure, or the end of one, has no reason, answer or place for its report.

        It is called before all topics are read, which takes a while.
        """
        if not self.dry_run and not (self.reason or "").strip():
            raise ConfigurationError(
                '--reason: required, for the audit event: state why, such as --reason "request 4711"'
            )
        if not self.dry_run:
            require_answer(self.yes)
        if self.export_report is not None and not self.dry_run:
            try:
                make_private(self.export_report)
            except OSError as error:
                raise ConfigurationError(f"--export-report {self.export_report}: {error.strerror}") from None

    def compartment(self) -> "Compartment":
        """Return the patient, asking for the key where it is ``-``. Raises ConfigurationError."""
        from fhirline.mappers.registry import VENDORS
        from fhirline.streams.step3_restore.erasure_list import Compartment

        known_vendors("--vendor", [self.vendor], VENDORS)
        slug("--tenant", self.tenant)
        key = (_asked() if self.patient == "-" else self.patient).strip()
        if not key:
            raise ConfigurationError("--patient: is empty")
        return Compartment.of(self.vendor, self.tenant, key)


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "forget", from_options(ForgetRequest, forget))


def forget(request: ForgetRequest) -> None:
    """Erase a patient: tombstones for all resources, a DELETE Bundle, and a block that no replay passes.

    Needs `FHIRLINE_ERASURE_KEY`, `--reason` and the operator's privileges. Workers may go on running; those that do not
    have the key are named in a warning. After a crash, run the command again to finish. The report lists what remains
    until its retention ends, such as raw events. An audit event in the log states who erased the patient, and why; it
    names the patient by a keyed hash only. See docs/erasure.md.

    Exit codes:

    * 0: erased. Only what the report lists remains.
    * 1: not erased, or not lifted: nothing is known of the patient, records remain, Kafka failed after it had begun, a
      data key was destroyed during `--lift`, or the answer was no.
    * 2: a wrong argument or setting, a missing privilege, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline forget --vendor mediquo --tenant acme --patient - --dry-run
    $ fhirline forget --vendor mediquo --tenant acme --patient - --reason "request 4711"
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.erasure.forget import Erasure
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    request.check()
    patient = request.compartment()
    require_topics(settings, "operator")
    with ExitStack() as stack:
        with progress() as reporter:
            erasure = stack.enter_context(closing(Erasure(settings, patient, counting(reporter))))
            blocked = erasure.blocked() is not None
            found = erasure.find()
        with failing_with("forget", {PublishFailed: NOT_ERASED}, AGAIN):
            if request.lift:
                _lift(request, erasure, found, blocked)
            else:
                _erase(request, settings, erasure, found, blocked)


def _lift(request: ForgetRequest, erasure: "Erasure", found: "Found", blocked: bool) -> None:
    from fhirline.streams.operate.erasure.keys import DestroyedMeanwhile

    if not blocked:
        raise CommandFailed("forget", "this patient is not erased; there is no block to lift", NOT_ERASED)
    if until := erasure.in_use_until():
        over = until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        raise ConfigurationError(
            f"--lift: a gateway may use a destroyed data key until {over}, and events that it encrypts until then "
            "would be lost: lift the block after that"
        )
    if request.dry_run:
        print("The block would be lifted. Nothing was done.")
        return
    confirm("Map this patient's events again, from now on?", request.yes)
    _audit("erasure lifted", request, erasure)
    with (
        failing_with("forget", {DestroyedMeanwhile: NOT_ERASED}),
        failing_with("forget", {KafkaAccessError: NOT_ERASED}, AGAIN),
    ):  # a part of it may be done already, so the exit code must not be 2
        erasure.lift(found)
    print(
        "Lifted: events that arrive from now on are mapped. Only a replay maps the events since the erasure, but for "
        "those that are encrypted."
    )


def _erase(request: ForgetRequest, settings: "Settings", erasure: "Erasure", found: "Found", blocked: bool) -> None:
    from fhirline.streams.operate.erasure.keys import LetInMeanwhile
    from fhirline.streams.operate.erasure.report import lines
    from fhirline.streams.operate.erasure.workers import without_the_key
    from fhirline.streams.operate.replay.patient import lines as held

    _print_found(found, blocked)
    if (keys := erasure.count_keys(found)) is not None:
        print(f"data keys         {keys} to be destroyed")
    if request.dry_run:
        for line in held(erasure.held_by_replays(found, ())):
            print(line)
    for line in without_the_key(settings):
        warn("forget", line)
    if found.nothing and not (request.unknown or blocked):
        raise CommandFailed(
            "forget",
            "nothing is known of such a patient: check the vendor's own key and the tenant; --unknown blocks it anyway",
            NOT_ERASED,
        )
    if request.dry_run:
        print("Nothing was done.")
        return
    confirm("Erase this patient? It cannot be undone.", request.yes)
    _audit("patient erased", request, erasure)
    begun: dict[type[BaseException], int] = dict.fromkeys((KafkaAccessError, LetInMeanwhile), NOT_ERASED)
    with failing_with("forget", begun, AGAIN):  # the block may be written already, so the exit code must not be 2
        report = erasure.erase(found, request.settle, lambda line: print(line, flush=True))
    for line in lines(report, settings.compaction_days):
        print(line)
    if request.export_report is not None:
        _export(report, request.export_report)
    if not report.complete:
        raise CommandFailed(
            "forget",
            f"{counted(report.left, 'record')} came back after each of {counted(report.looks, 'search', 'searches')}: "
            "an older worker, or another writer, ignores the block; end it and run this again",
            NOT_ERASED,
        )


def _audit(event: str, request: ForgetRequest, erasure: "Erasure") -> None:
    from fhirline.streams.observe.audit import audit

    about = {"vendor": request.vendor, "tenant": request.tenant, "patient": erasure.digest}
    audit(event, by="forget", name=request.name, reason=(request.reason or "").strip(), **about)


def _asked() -> str:
    """Read the patient's key from standard input. On a terminal, ask for it without showing what is typed."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from getpass import getpass

    return getpass("patient key: ", sys.stderr)


def _print_found(found: "Found", blocked: bool) -> None:
    by_type = ", ".join(f"{count} {name}" for name, count in sorted(found.by_type().items())) or "none"
    print(f"resources         {len(found.live)} ({by_type})")
    print(f"state             {counted(len(found.state), 'entry', 'entries')}")
    print(f"outcomes          of {counted(len(found.outcomes), 'event')}")
    erased = f", and {found.unreadable_raw_records} that cannot be read" if found.unreadable_raw_records else ""
    print(f"raw events        {found.raw_records}{erased}")
    print(f"blocked already   {'yes' if blocked else 'no'}")


def _export(report: "Report", path: Path) -> None:
    """Write the report for its owner only, because the keys in it are pseudonyms of a person."""
    try:
        with open_private(path) as file:
            file.write(json.dumps(report.document(), indent=2).encode())
    except OSError as error:
        raise CommandFailed(
            "forget",
            f"--export-report {path}: {error.strerror}. The erasure itself is done; run this again for a report",
            INCOMPLETE,
        ) from None
    print(f"report            {path}")
