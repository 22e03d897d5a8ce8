"""``fhirline dead-letters``: what could not be mapped, and sending it through the mapping again."""

import logging
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.audit_option import As
from fhirline.streams.cli.dead_letters_options import AsJson, Form, Reason, Reveal, filter_of, filtered
from fhirline.streams.cli.dead_letters_terminal import bar, confirm, print_json, read, require_answer, table

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.streams.operate.dead_letters.cases import Case
    from fhirline.streams.operate.dead_letters.redrive import Redriver, Report
    from fhirline.streams.operate.dead_letters.selection import Filter

INCOMPLETE = 1
CONNECT_SECONDS = 10.0
LOOK_AGAIN = 0.5
"""Seconds between two looks at what became of redriven events."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="dead-letters",
        help="What could not be mapped: list it, look at it, send it through the mapping again, export it. "
        "Filters given twice mean either; different filters must all hold.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.command("list")(filtered(list_, "id"))
    group.command("show")(show)
    group.command("redrive")(filtered(redrive))
    group.command("export")(filtered(export))
    app.add_typer(group)


def list_(
    meant: "Filter",
    each: Annotated[bool, typer.Option("--each", help="Every event by itself, with its id, instead of groups")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the events that became dead letters, by vendor, error code, path and mapping version.

    Statuses: open; redriven (sent again, not mapped yet); failed-again; done. Paths are grouped without their indexes.

    Exit 0: read. Exit 2: a wrong argument or setting, or no cluster answered.
    """
    from fhirline.streams.operate.dead_letters.selection import grouped
    from fhirline.streams.operate.dead_letters.view import (
        CASE_COLUMNS,
        GROUP_COLUMNS,
        case_document,
        case_row,
        group_document,
        group_row,
    )

    with _board(_settings(), meant) as board:
        found = [*filter(meant, read(board))]
    if each:
        if as_json:
            print_json([case_document(case) for case in found])
        else:
            table(CASE_COLUMNS, map(case_row, found))
    elif as_json:
        print_json([group_document(group) for group in grouped(found)])
    else:
        table(GROUP_COLUMNS, map(group_row, grouped(found)))


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of `list --each`: topic/partition/offset")],
    reveal: Reveal = False,
    reason: Reason = None,
    name: As = None,
    as_json: AsJson = False,
) -> None:
    """Show one event's metadata and its failing paths; its key and payload only with --reveal.

    Exit 0: shown. Exit 1: there is no such letter (any more). Exit 2: a wrong argument or setting, or no cluster
    answered.
    """
    from fhirline.streams.observe.terminal import printable
    from fhirline.streams.operate.dead_letters.board import records
    from fhirline.streams.operate.dead_letters.view import (
        case_document,
        case_lines,
        payload_document,
        payload_text,
        revealed,
    )

    because = _because(reveal, reason)
    meant = filter_of([id])
    settings = _settings()
    with _board(settings, meant) as board:
        case = next(filter(meant, read(board)), None)
        if case is None:
            print(f"fhirline dead-letters: no letter {printable(id)}; `list --each` shows the ids", file=sys.stderr)
            raise typer.Exit(INCOMPLETE)
        record: ConsumerRecord | None = None
        if reveal:
            revealed([case], "show", because, name)
            record = next(records(settings, [case.last.position]), None)
    if as_json:
        print_json(case_document(case) | (payload_document(record) if record else {}))
        return
    for line in case_lines(case):
        print(line)
    if record:
        print(f"{'key':16}{printable((record.key or b'').decode('utf-8', 'replace'))}\n\n{payload_text(record.value)}")


def redrive(
    meant: "Filter",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many with one idempotency key, the first received first")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Events a second at most")] = 100.0,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="What was sent with this key is not sent again; default: a new one, shown"),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for what becomes of them; 0: none")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; send nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where no terminal is")] = False,
) -> None:
    """Send events through the mapping again, as their vendors' raw records; a running worker maps them.

    Without --status: what is open or has failed again. Harmless whenever it is done: what the patient's later events
    have written stays. What fails again is listed as failed-again, with the number of its attempts.

    Exit 0: sent, and nothing of it has failed again so far. Exit 1: something could not be sent, or failed again. Exit
    2: a wrong argument or setting, a privilege that is missing, or no cluster answered.
    """
    from fhirline.streams.kafka.acl_check import require_privileges
    from fhirline.streams.operate.dead_letters.redrive import SEND_AGAIN, Redriver
    from fhirline.streams.operate.dead_letters.selection import grouped
    from fhirline.streams.operate.dead_letters.view import GROUP_COLUMNS, group_row

    if not meant.statuses:
        meant = replace(meant, statuses=SEND_AGAIN)
    key = _idempotency_key(idempotency_key)
    if not dry_run:
        require_answer(yes)
    settings = _settings()
    with _board(settings, meant) as board:
        if not dry_run:  # an event that was sent and could not be marked would be sent again
            require_privileges(settings, "operator")
        known = read(board)
        answered = {case.id for case in known if case.answers(key)}
        if answered:
            print(f"{len(answered):,} were sent with this idempotency key before; they are left alone")
        left = None if limit is None else max(0, limit - len(answered))
        chosen = [case for case in filter(meant, known) if case.id not in answered][:left]
        if dry_run:
            table(GROUP_COLUMNS, map(group_row, grouped(chosen)))
            print(f"{len(chosen):,} would be sent; nothing was")
            return
        redriver = Redriver(settings, key, rate)
        redriver.settle(known)
        if not chosen:
            print("Nothing to send.")
            return
        confirm(f"Send {len(chosen):,} events through the mapping again?", yes)
        report = _send(redriver, chosen, key)
        became = _wait(board, redriver, report, wait)
    _summarize(report, became)


def export(
    meant: "Filter",
    to: Annotated[Path, typer.Option(help="File (jsonl) or folder (files) to write, mode 0600")],
    form: Annotated[
        Form, typer.Option("--format", help="jsonl: an event a line; files: ID.json and, revealed, ID.payload")
    ] = Form.jsonl,
    reveal: Reveal = False,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Write metadata and failing paths into files that only their owner may read; payloads only with --reveal.

    Exit 0: written. Exit 2: a wrong argument or setting, or no cluster answered.
    """
    from fhirline.streams.operate.dead_letters.board import records
    from fhirline.streams.operate.dead_letters.export import to_folder, to_lines
    from fhirline.streams.operate.dead_letters.view import revealed

    because = _because(reveal, reason)
    settings = _settings()
    with _board(settings, meant) as board:
        found = [*filter(meant, read(board))]
        written: Iterable[tuple[Case, ConsumerRecord | None]] = ((case, None) for case in found)
        if reveal:
            revealed(found, "export", because, name)
            lasts = {case.last.position: case for case in found}
            written = ((lasts[record.position], record) for record in records(settings, lasts.keys()))
        count = (to_lines if form is Form.jsonl else to_folder)(to, written)
    print(f"{count:,} written to {to}")


def _settings() -> "Settings":
    from fhirline.config.settings import load_settings
    from fhirline.streams.observe.logs import configure_logging

    settings = load_settings()
    configure_logging(settings)
    logging.getLogger("kafka").setLevel(logging.ERROR)  # it warns of its own pace; what fails is raised
    return settings


def _board(settings: "Settings", meant: "Filter") -> "Board":
    """The board of the vendors that are meant."""
    from fhirline.config.vendors import load_vendors
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.topics.declared import DEAD_LETTER_STATUS

    if DEAD_LETTER_STATUS not in connect(settings, CONNECT_SECONDS).topics:
        raise ConfigurationError(f"topic {DEAD_LETTER_STATUS} is missing: run `fhirline topics apply`")
    vendors = load_vendors(settings.vendors_file).names
    if unknown := sorted(set(meant.vendors) - set(vendors)):
        raise ConfigurationError(f"--vendor: unknown vendor {unknown[0]!r}; known: {', '.join(vendors)}")
    return Board(settings, meant.vendors or vendors)


def _because(reveal: bool, reason: str | None) -> str:
    if reveal and not (reason and reason.strip()):
        raise ConfigurationError("--reveal shows patients' data: say why with --reason; it goes into the audit event")
    return (reason or "").strip()


def _idempotency_key(given: str | None) -> str:
    if given is None:
        return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    if not re.fullmatch(r"[a-zA-Z0-9._:-]{1,100}", given):
        raise ConfigurationError("--idempotency-key: up to 100 letters, digits and . _ : -")
    return given


def _send(redriver: "Redriver", chosen: "Sequence[Case]", key: str) -> "Report":
    from fhirline.streams.operate.dead_letters.redrive import NotMarked

    print(f"sending {len(chosen):,}, idempotency key {key}", flush=True)
    try:
        with bar(len(chosen)) as advance:
            return redriver.send(chosen, advance)
    except (KeyboardInterrupt, NotMarked) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        again = f"run it again with --idempotency-key {key}: what is marked as sent is left alone"
        print(f"fhirline dead-letters: {why} after {len(redriver.report.sent):,} were sent; {again}", file=sys.stderr)
        raise typer.Exit(INCOMPLETE) from None


def _wait(board: "Board", redriver: "Redriver", report: "Report", seconds: float) -> "list[Case]":
    """What became of what was sent, marked where it is known; after ``seconds`` some may still be on their way."""
    from fhirline.streams.operate.dead_letters.cases import Status

    end = time.monotonic() + seconds
    while report.sent and seconds:
        became = [case for case in board.read() if case.id in report.sent]
        if time.monotonic() > end or not any(case.status is Status.REDRIVEN for case in became):
            redriver.settle(became)
            return became
        time.sleep(LOOK_AGAIN)  # offsets are committed now and then: there is nothing that tells of it
    return []


def _summarize(report: "Report", became: "list[Case]") -> None:
    from fhirline.streams.operate.dead_letters.cases import Status
    from fhirline.streams.operate.dead_letters.view import CASE_COLUMNS, case_row

    for id, why in report.not_sent.items():
        print(f"fhirline dead-letters: {id} was not sent: {why}", file=sys.stderr)
    failed = [case for case in became if case.status is Status.FAILED]
    if failed:
        table(CASE_COLUMNS, map(case_row, failed))
    done = sum(case.status is Status.DONE for case in became)
    counts = (
        f"{len(report.sent):,} sent",
        f"{done:,} done",
        f"{len(failed):,} failed again",
        f"{len(report.sent) - done - len(failed):,} on their way (`list` shows what becomes of them)",
        f"{len(report.not_sent):,} not sent",
    )
    print(", ".join(counts))
    raise typer.Exit(INCOMPLETE if failed or report.not_sent else 0)
