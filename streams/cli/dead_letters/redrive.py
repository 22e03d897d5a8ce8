"""``fhirline dead-letters redrive``: sending events through the mapping again."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import INCOMPLETE, INTERRUPTED
from fhirline.streams.cli.dead_letters.filter import FilterOptions, require_no_event_filter
from fhirline.streams.cli.dead_letters.session import board_of, loaded_settings, read
from fhirline.streams.cli.deliver_waiting import resume_refused
from fhirline.streams.cli.errors import CommandFailed, warn
from fhirline.streams.cli.options import As, DryRun, Yes
from fhirline.streams.cli.output import confirm, print_table, progress, require_answer
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.streams.operate.dead_letters.cases import Case
    from fhirline.streams.operate.dead_letters.redrive import Redriver, Report


def redrive(
    chosen: FilterOptions,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Send at most this many events with one idempotency key, the earliest received first."
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Events per second at most.")] = 100.0,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Do not send again what was sent with this key. Default: a new key, printed."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until the events are mapped; 0 does not wait.")
    ] = 30.0,
    delivery: Annotated[
        bool,
        typer.Option("--delivery", help="Send what waits for the FHIR server instead, patient by patient."),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    name: As = None,
) -> None:
    """Send events through the mapping again, as raw records of their vendors. A running worker maps them.

    Without --status, events that are open or failed-again are sent. Sending is safe at any time: later events of the
    patient are not overwritten. An event that fails again is listed as failed-again, with the number of its attempts. A
    filter that is given twice accepts either value; different filters must all hold.

    With --delivery, order that what the FHIR server refused is sent, with its current values and all that waits behind
    it, as `fhirline deliver resume` does; only --code, --dry-run, --yes and --as go with it.

    An audit event in the log states who sent how many events, before the first is sent.

    Exit codes:

    * 0: sent, and none has failed again so far.
    * 1: an event could not be sent, or failed again, or the answer was no.
    * 2: a wrong argument or setting, a missing privilege, or the cluster does not answer.
    * 130: interrupted; the command to go on with is printed.

    Examples:

    ```console
    $ fhirline dead-letters redrive --code resource-invalid --dry-run
    $ fhirline dead-letters redrive --code resource-invalid --rate 50
    ```
    """
    from fhirline.streams.kafka.acl_check import require_privileges
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.operate.dead_letters.redrive import SEND_AGAIN, Redriver, wait_until_mapped
    from fhirline.streams.operate.dead_letters.selection import grouped
    from fhirline.streams.operate.dead_letters.view import GROUP_COLUMNS, group_row

    wanted = chosen.filter()
    if delivery:
        require_no_event_filter(chosen)
        return resume_refused(chosen.code, dry_run, yes, name)
    if not wanted.statuses:
        wanted = replace(wanted, statuses=SEND_AGAIN)
    key = _idempotency_key(idempotency_key)
    if not dry_run:
        require_answer(yes)
    settings = loaded_settings()
    with board_of(settings, wanted) as board:
        if not dry_run:  # an event that was sent and could not be marked would be sent again
            require_privileges(settings, "operator")
        known = read(board, wanted)
        answered = {case.id for case in known if case.answers(key)}
        if answered:
            print(f"Sent with this idempotency key before, and not sent again: {len(answered):,}")
        left = None if limit is None else max(0, limit - len(answered))
        cases = [case for case in filter(wanted, known) if case.id not in answered][:left]
        if dry_run:
            print_table(GROUP_COLUMNS, map(group_row, grouped(cases)))
            print(f"{counted(len(cases), 'event')} would be sent; nothing was")
            return
        redriver = Redriver(settings, key, rate)
        redriver.settle(known)
        if not cases:
            print("Nothing to send.")
            return
        confirm(f"Send {counted(len(cases), 'event')} through the mapping again?", yes)
        audit("dead letters redriven", by="dead-letters", name=name, events=str(len(cases)), key=key)
        report = _send(redriver, cases, key)
        results = wait_until_mapped(board, redriver, wait)
    _summarize(report, results)


def _idempotency_key(given: str | None) -> str:
    if given is None:
        return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    if not re.fullmatch(r"[a-zA-Z0-9._:-]{1,100}", given):
        raise ConfigurationError("--idempotency-key: up to 100 letters, digits and . _ : -")
    return given


def _send(redriver: "Redriver", cases: "Sequence[Case]", key: str) -> "Report":
    from fhirline.streams.operate.dead_letters.redrive import NotMarked

    print(f"sending {counted(len(cases), 'event')}, idempotency key {key}", flush=True)
    handed = count(1)
    try:
        with progress() as reporter:
            return redriver.send(cases, lambda: reporter.show("sending", next(handed), len(cases)))
    except (KeyboardInterrupt, NotMarked) as error:
        why, code = ("interrupted", INTERRUPTED) if isinstance(error, KeyboardInterrupt) else (str(error), INCOMPLETE)
        again = f"run it again with --idempotency-key {key}: what is marked as sent is not sent again"
        sent = len(redriver.report.sent)
        raise CommandFailed("dead-letters", f"{why} after {sent:,} were sent; {again}", code) from None


def _summarize(report: "Report", cases: "list[Case]") -> None:
    from fhirline.streams.operate.dead_letters.cases import Status
    from fhirline.streams.operate.dead_letters.view import CASE_COLUMNS, case_row

    for id, why in report.not_sent.items():
        warn("dead-letters", f"{id} was not sent: {why}")
    failed = [case for case in cases if case.status is Status.FAILED]
    if failed:
        print_table(CASE_COLUMNS, map(case_row, failed))
    done = sum(case.status is Status.DONE for case in cases)
    counts = (
        f"{len(report.sent):,} sent",
        f"{done:,} done",
        f"{len(failed):,} failed again",
        f"{len(report.sent) - done - len(failed):,} not mapped yet (see `fhirline dead-letters list`)",
        f"{len(report.not_sent):,} not sent",
    )
    print(", ".join(counts))
    if failed or report.not_sent:
        raise typer.Exit(INCOMPLETE)
