"""``fhirline replay``: raw events mapped again, compared with what the topics hold, and published if asked to."""

import os
import re
import sys
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, NoReturn

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.registry import VENDORS

if TYPE_CHECKING:
    from fhirline.streams.operate.replay.progress import Teller
    from fhirline.streams.operate.replay.run import Run
    from fhirline.streams.operate.replay.selection import Selection

DIFFERS = 1
"""Exit code where something differs, or events failed, or not all could be published."""

UNUSABLE = 2
"""Exit code where a privilege is missing or Kafka does not answer, as of a wrong argument."""

INTERRUPTED = 130
CONNECT_SECONDS = 10.0
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU in a period and the period, or ``max`` and the period (Linux, Control Group v2)."""

RANGE = partial(typer.Option, rich_help_panel="Range")
WHAT = partial(typer.Option, rich_help_panel="What to do")


def register(app: typer.Typer) -> None:
    app.command("replay")(replay)


def replay(
    vendor: Annotated[
        list[str] | None,
        RANGE(help=f"Only this vendor, may be repeated: {', '.join(VENDORS)}"),
    ] = None,
    tenant: Annotated[str | None, RANGE(help="Only this tenant's events")] = None,
    since: Annotated[
        str | None,
        RANGE(help="Events from this RFC 3339 instant on, 2024-01-01T00:00:00Z"),
    ] = None,
    until: Annotated[str | None, RANGE(help="Events before this instant")] = None,
    time: Annotated[
        Literal["record", "event"],
        RANGE(help="What --since and --until mean: receipt, or the event's own time"),
    ] = "record",
    partitions: Annotated[str | None, RANGE(help="Only these raw partitions: 0,3-5")] = None,
    patient: Annotated[
        str | None,
        RANGE(help="Only this patient, by the vendor's own key (in a raw record's key behind the tenant)"),
    ] = None,
    event_type: Annotated[list[str] | None, RANGE(help="Only this event type, may be repeated")] = None,
    dead_letters: Annotated[bool, RANGE("--dead-letters", help="Only events that have an open dead letter")] = False,
    resume: Annotated[
        str | None,
        RANGE(help="Go on with this run; its range stands, --diff or --publish may be another"),
    ] = None,
    diff: Annotated[bool, WHAT("--diff/--publish", help="Compare only, or write what differs")] = True,
    diff_out: Annotated[
        Path | None,
        WHAT(dir_okay=False, help="With --diff: every difference, as JSON Lines without patient data"),
    ] = None,
    to_prefix: Annotated[
        str,
        WHAT(help="Compare with, and publish to, shadow topics of this prefix (made where missing)"),
    ] = "",
    everything: Annotated[bool, WHAT("--all", help="Publish also what is the same, byte for byte")] = False,
    tombstones: Annotated[
        bool,
        WHAT("--tombstones", help="With --publish: also delete keys that nothing makes any more"),
    ] = False,
    bundles: Annotated[
        bool,
        WHAT("--bundles", help="With --publish: also the range's transaction Bundles"),
    ] = False,
    jobs: Annotated[
        int | None, WHAT(min=1, max=256, help="Processes at once; default: one a core (of a container: by its limit)")
    ] = None,
) -> None:
    """Map a range of raw.* again, beside the live workers: show what would change (--diff, the default), or write it.

    Only the last value of each key counts; nothing later than the range is ever replaced. The consumer group is neither
    joined nor moved. Ctrl-C stops after the batches in hand; --resume goes on. docs/replay.md has the runbook.

    Exit 0: nothing differs, or all is published. Exit 1: something differs (--diff), or events failed, or not all could
    be published. Exit 2: a wrong argument or setting, a privilege that is missing, or no cluster answered. Exit 130:
    interrupted.
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.kafka.acl_check import require_privileges
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.replay.progress import teller
    from fhirline.streams.operate.replay.run import Failed, Interrupted, Run
    from fhirline.streams.step3_restore.state import RestoreFailed
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    processes = jobs or _cores()
    chosen = _selection(vendor, tenant, since, until, time, partitions, patient, event_type, dead_letters)
    _check(diff, diff_out, to_prefix, tombstones, bundles, everything)
    connect(settings, CONNECT_SECONDS)
    if not diff:
        require_privileges(settings, "operator")
    with ExitStack() as stack:
        told = stack.enter_context(teller())
        if resume is not None:
            if (
                chosen != _selection(None, None, None, None, "record", None, None, None, False)
                or to_prefix
                or everything
            ):
                raise ConfigurationError("--resume: the run has its own range and topics; leave the other options out")
            run = stack.enter_context(Run.resumed(settings, resume, processes, told))
        else:
            run = stack.enter_context(
                Run.new(settings, chosen, processes, told, prefix=to_prefix, everything=everything)
            )
        if tombstones and not run.plan.selection.whole:
            raise ConfigurationError(
                "--tombstones: needs all of a vendor's events; a part cannot know that no other event makes a key"
            )
        told.spans(run.plan.spans)
        options = (("--publish", not diff), ("--tombstones", tombstones), ("--bundles", bundles))
        again = " ".join((f"fhirline replay --resume {run.plan.id}", *(name for name, given in options if given)))
        try:
            run.map()
            differs = _diff(run, told, diff_out) if diff else _publish(run, told, tombstones, bundles)
        except (Interrupted, KeyboardInterrupt):
            _end(told, f"interrupted; go on with: {again}", INTERRUPTED)
        except (Failed, PublishFailed) as error:
            _end(told, f"{error}; go on with: {again}", DIFFERS)
        except RestoreFailed as error:  # nothing was mapped in vain: a privilege, or the cluster
            _end(told, f"{error}; go on with: {again}", UNUSABLE)
    raise typer.Exit(DIFFERS if differs else 0)


def _diff(run: "Run", told: "Teller", out: Path | None) -> bool:
    from fhirline.streams.operate.replay.compare import report
    from fhirline.streams.operate.replay.progress import show

    with run.journals() as journals, ExitStack() as stack:
        told.phase("comparing")
        lines = stack.enter_context(_opened(out)) if out else None
        compared = report(run.comparison(journals), lines)
        told.close()
        failed = show(compared, journals)
    if compared.differs:
        print(f"publish it with: fhirline replay --resume {run.plan.id} --publish")
    else:
        run.remove()
    return compared.differs or failed


def _publish(run: "Run", told: "Teller", tombstones: bool, bundles: bool) -> bool:
    from fhirline.streams.operate.replay.progress import show_published

    with run.journals() as journals:
        told.phase("publishing")
        published = run.publisher(journals, tombstones).run(told.published)
        if bundles:
            published.too_large += run.bundles()
        told.close()
        incomplete = show_published(published, journals)
    if not incomplete:
        run.remove()
    return incomplete


def _cores(limit: Path = CPU_LIMIT) -> int:
    """Cores to use: the machine's, or as many as a container's limit lets it use; its memory is dealt out alike."""
    cores = os.cpu_count() or 1
    try:
        quota, period = (int(each) for each in limit.read_text("ascii").split())
    except (OSError, ValueError):  # no control group, or one without a limit
        return cores
    return max(1, min(cores, ceil(quota / period)))


def _selection(
    vendor: list[str] | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
    time: Literal["record", "event"],
    partitions: str | None,
    patient: str | None,
    event_type: list[str] | None,
    dead_letters: bool,
) -> "Selection":
    """The range asked for; raises ConfigurationError where the options are no range."""
    from fhirline.mappers.instants import Instant
    from fhirline.mappers.registry import vendor_mapping
    from fhirline.streams.operate.replay.selection import Selection

    vendors = tuple(dict.fromkeys(vendor or VENDORS))
    if unknown := sorted(set(vendors) - set(VENDORS)):
        raise ConfigurationError(f"--vendor: unknown vendor {unknown[0]!r}; one of {', '.join(VENDORS)}")
    for name, given in (("--since", since), ("--until", until)):
        if given is not None and Instant.parse(given) is None:
            raise ConfigurationError(f"{name}: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
    known = {each for one in vendors for each in (*vendor_mapping(one).events, *vendor_mapping(one).unmapped)}
    if unknown := sorted(set(event_type or ()) - known):
        raise ConfigurationError(f"--event-type: {unknown[0]!r} is none of {', '.join(sorted(known))}")
    return Selection(
        vendors,
        tenant,
        since,
        until,
        time,
        None if partitions is None else _numbers(partitions),
        patient,
        tuple(event_type or ()),
        dead_letters,
    )


def _numbers(text: str) -> tuple[int, ...]:
    """``0,3-5`` → (0, 3, 4, 5)."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ConfigurationError("--partitions: numbers and ranges, such as 0,3-5")
        found.update(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(found))


def _check(
    diff: bool, diff_out: Path | None, to_prefix: str, tombstones: bool, bundles: bool, everything: bool
) -> None:
    """Options that say nothing together."""
    if diff_out is not None and not diff:
        raise ConfigurationError("--diff-out: goes with --diff")
    for name, given in (("--tombstones", tombstones), ("--bundles", bundles), ("--all", everything)):
        if given and diff:
            raise ConfigurationError(f"{name}: goes with --publish")
    if to_prefix and bundles:
        raise ConfigurationError("--bundles: Bundles have no shadow topic; leave out --to-prefix")
    if to_prefix and not re.fullmatch(r"[a-zA-Z0-9._-]{1,100}", to_prefix):
        raise ConfigurationError("--to-prefix: letters, digits, dots, hyphens and underscores, such as shadow.")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise ConfigurationError(f"--diff-out {path}: {error.strerror}") from None


def _end(told: "Teller", message: str, code: int) -> NoReturn:
    told.close()
    print(f"fhirline replay: {message}", file=sys.stderr, flush=True)
    raise typer.Exit(code)
