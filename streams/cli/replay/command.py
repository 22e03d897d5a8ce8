"""``fhirline replay``: map raw events again, compare with the topics, and publish what differs."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DIFFERS, DONE, INCOMPLETE, INTERRUPTED, UNUSABLE
from fhirline.streams.cli.errors import failing_with, warn
from fhirline.streams.cli.options import TIMEOUT, As
from fhirline.streams.cli.output import print_table, progress
from fhirline.streams.cli.replay.request import ReplayRequest

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.operate.replay.journal import Journal
    from fhirline.streams.operate.replay.progress import ProgressReporter
    from fhirline.streams.operate.replay.run import Run

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU per period and the period, or ``max`` and the period (Linux, Control Group v2)."""


def replay(request: ReplayRequest, name: As = None) -> None:
    """Map a range of raw events again, and show what would change (--diff, the default) or write it (--publish).

    Runs beside live workers, and neither joins nor moves their consumer group. Only the last value of each key counts,
    and no record of an event after the range is replaced. Ctrl-C stops after the batches that are being mapped;
    --resume continues the run, under the same mapping, tables and settings only. --list and --discard are for runs that
    were not finished. An audit event in the log states who published or discarded. See docs/replay.md.

    Exit codes:

    * 0: nothing differs, or everything is published.
    * 1: something differs (--diff), an event failed, or a record could not be published.
    * 2: a wrong argument or setting, a changed table or setting of a run that is resumed, a missing privilege, or the
      cluster does not answer.
    * 130: interrupted. The command that continues is on standard error.

    Examples:

    ```console
    $ fhirline replay --vendor altibbi --since 2026-01-01T00:00:00Z --diff-out changes.jsonl
    $ fhirline replay --resume 20260301-101500-4711 --publish
    $ fhirline replay --list
    ```
    """
    from fhirline.config.errors import KafkaAccessError
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.replay import kept
    from fhirline.streams.cli.replay.progress import RunProgress
    from fhirline.streams.kafka.acl_check import require_privileges
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.replay import folders
    from fhirline.streams.operate.replay.inputs import InputsChanged
    from fhirline.streams.operate.replay.run import Failed, Interrupted
    from fhirline.streams.step3_restore.erasure_list_feed import ErasedSince
    from fhirline.streams.step3_restore.topic_cache import RestoreFailed
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    request.check()
    if request.list_runs:
        return kept.show(settings)
    if request.discard is not None:
        return kept.discard(settings, request.discard, request.yes, name)
    if request.resume is not None:
        folders.existing(settings.replay_dir, "--resume", request.resume)
    connect(settings, TIMEOUT)
    if not request.diff:
        require_privileges(settings, "operator")
    exit_codes: dict[type[BaseException], int] = {
        Interrupted: INTERRUPTED,
        KeyboardInterrupt: INTERRUPTED,
        Failed: INCOMPLETE,
        PublishFailed: INCOMPLETE,
        RestoreFailed: UNUSABLE,  # a missing privilege, or the cluster; what was mapped is kept
        KafkaAccessError: UNUSABLE,
    }
    with ExitStack() as stack:
        bars = stack.enter_context(ExitStack())
        reporter = RunProgress(bars.enter_context(progress()))
        run = stack.enter_context(_run(request, settings, reporter))
        request.check_selected(run.plan.selection, run.plan.prefix)
        with failing_with("replay", exit_codes, f"go on with: {request.resume_command(run.plan.id)}"):
            try:
                run.map()
                if request.diff:
                    exit_code = _compare(request, run, reporter, bars.close)
                else:
                    exit_code = _publish(request, run, reporter, bars.close, name)
            except (ErasedSince, InputsChanged):
                run.discard()  # it can never be published, and may contain a patient who was erased
                raise
    if exit_code:
        raise typer.Exit(exit_code)


def _run(request: ReplayRequest, settings: "Settings", reporter: "ProgressReporter") -> "Run":
    from fhirline.streams.operate.replay.run import Run

    jobs = request.jobs or _cores()
    if request.resume is not None:
        return Run.resumed(settings, request.resume, jobs, reporter)
    return Run.new(
        settings,
        request.selection(),
        jobs,
        reporter,
        prefix=request.to_prefix,
        everything=request.everything,
        keep=request.keep,
    )


def _compare(request: ReplayRequest, run: "Run", reporter: "ProgressReporter", finish: Callable[[], None]) -> int:
    """Compare the replayed records with the topics, and print the result. Returns the exit code.

    ``finish`` ends the progress bars.
    """
    from fhirline.streams.operate.replay import view
    from fhirline.streams.operate.replay.kept_report import KeptReport
    from fhirline.streams.operate.replay.report import report
    from fhirline.streams.step1_receive.raw_record import now

    reporter.comparing()
    with run.journals() as journals, ExitStack() as stack:
        lines = stack.enter_context(_opened(request.diff_out)) if request.diff_out else None
        compared = report(run.comparison(journals), run.tables_version, lines)
        failed = view.failures(journals.values())
        events = sum(journal.events for journal in journals.values())
        erased = sum(journal.erased for journal in journals.values())
        finish()
        print_table(view.COLUMNS, view.rows(compared))
        for line in (*view.change_lines(compared), "", view.events_line(journals.values(), failed)):
            print(line)
        try:
            KeptReport(now().text, events, failed, run.tables_version, compared, erased).save(run.folder)
        except OSError as error:
            warn("replay", f"{run.folder}: the report was not kept for the console: {error.strerror}")
        _warn_of_nothing(run, journals)
    if compared.differs:
        print(f"publish it with: fhirline replay --resume {run.plan.id} --publish")
        print(f"or discard it with: fhirline replay --discard {run.plan.id}")
    else:
        run.finish()
    if failed:
        return INCOMPLETE
    return DIFFERS if compared.differs else DONE


def _warn_of_nothing(run: "Run", journals: "Mapping[str, Journal]") -> None:
    """Warn where no event was selected, since a mistyped tenant or patient looks like "nothing differs"."""
    if not any(journal.events or journal.erased for journal in journals.values()):
        warn("replay", f"no event was selected: {run.plan.selection.describe()}")


def _publish(
    request: ReplayRequest, run: "Run", reporter: "ProgressReporter", finish: Callable[[], None], name: str | None
) -> int:
    """Publish the replayed records, and print the result. ``finish`` ends the progress bars. Returns the exit code.

    ``name``: of the person who publishes, for the audit event.
    """
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.operate.replay import view

    more = (
        ("all", run.plan.everything),
        ("bundles", request.bundles),
        ("outcomes", request.outcomes),
        ("tombstones", request.tombstones),
    )
    also = ", ".join(word for word, given in more if given) or None
    about = {"run": run.plan.id, "selection": run.plan.selection.describe(), "prefix": run.plan.prefix or None}
    audit("replay published", by="replay", name=name, **about, also=also)
    reporter.publishing()
    with run.journals() as journals:
        published = run.publisher(journals, request.tombstones).run(reporter.published)
        if request.bundles:
            published.too_large += run.bundles()
        if request.outcomes:
            published.too_large += run.outcomes()
        failed = view.failures(journals.values())
        finish()
        for line in (*view.published_lines(published), "", view.events_line(journals.values(), failed)):
            print(line)
        _warn_of_nothing(run, journals)
    if published.too_large or published.unsettled:
        print(f"publish the rest with: {request.resume_command(run.plan.id)}")
        print(f"or discard it with: fhirline replay --discard {run.plan.id}")
        return INCOMPLETE
    run.finish()
    return INCOMPLETE if failed else DONE


def _cores(limit: Path = CPU_LIMIT) -> int:
    """Count the cores to use: the machine's, or a container's limit, whose memory is usually proportional to it."""
    cores = os.cpu_count() or 1
    try:
        quota, period = (int(number) for number in limit.read_text("ascii").split())
    except (OSError, ValueError):  # no control group, or one without a limit
        return cores
    return max(1, min(cores, ceil(quota / period)))


def _opened(path: Path) -> BinaryIO:
    from fhirline.config.private_files import open_private

    try:
        return open_private(path)
    except OSError as error:
        raise ConfigurationError(f"--diff-out {path}: {error.strerror}") from None
