"""``fhirline ingest``: historical events from files into the raw topic."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from fhirline.config.errors import ConfigurationError, KafkaUnreachable
from fhirline.config.exit_codes import INCOMPLETE, INTERRUPTED
from fhirline.config.private_files import open_private
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.pipeline.body import fingerprint
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.inputs import check_format
from fhirline.streams.cli.options import Tenant, instant
from fhirline.streams.cli.output import ProgressReporter, progress
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.mappers.instants import Instant
    from fhirline.streams.step1_receive.files import Count, Ingest, Rejected
    from fhirline.streams.step1_receive.routes import Route

STANDARD_INPUT = "-"
NOT_JSON = "not-json"
OVER_LINES = "most lines are not JSON. A body is one line: write one that is over several lines anew, with jq -c . FILE"


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "ingest", ingest)


def ingest(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(VENDORS)}.")],
    files: Annotated[list[str], typer.Argument(help="NDJSON files, one webhook body per line; - for standard input.")],
    tenant: Tenant = DEFAULT_TENANT,
    received_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="RFC 3339 instant at which the events were received. Default: now."),
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event of the webhook's route (Azodha).")] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write rejected lines to this file, unredacted, with mode 0600."),
    ] = None,
) -> None:
    """Write historical events to a vendor's raw topic, as the gateway would have.

    A rejected line is reported as file:line on standard error, and the other lines go on. A line that is written twice
    is one event, so after an interruption run the same command again.

    Exit codes:

    * 0: Kafka acknowledged every line.
    * 1: lines were rejected, or Kafka stopped answering.
    * 2: a wrong argument or setting, a file that is compressed or not in UTF-8, or the cluster does not answer.
    * 130: interrupted.

    Example:

    ```console
    $ fhirline ingest mediquo --tenant acme --rejects rejected.ndjson export.ndjson
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.step1_receive.files import Ingest, TopicMissing
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    settings = load_settings()
    configure_logging(settings)
    route = _route(vendor, tenant, event, settings.vendors_file)
    at = _received_at(received_at)
    connect(settings, settings.delivery_timeout)
    with ExitStack() as stack:
        inputs = [(_name(file), stack.enter_context(_opened(file))) for file in files]
        for name, stream in inputs:
            check_format(name, stream)
        reporter = stack.enter_context(progress())
        report = RejectReport(reporter, stack.enter_context(_rejects(rejects, inputs)) if rejects else None)
        try:
            job = Ingest(settings, route, at, report)
        except TopicMissing as missing:
            raise ConfigurationError(f"topic {missing} does not exist; run: fhirline topics apply") from None
        except KafkaUnavailable as error:
            raise KafkaUnreachable(f"FHIRLINE_BOOTSTRAP: no answer from {settings.bootstrap} ({error})") from None
        failure = _run(job, inputs, reporter, settings.message_max_bytes)
    count = job.count
    print(
        f"{counted(count.read, 'line')}: {count.taken:,} in the topic, {count.rejected:,} rejected, "
        f"{count.blank:,} blank",
        flush=True,
    )
    if failure:
        raise CommandFailed("ingest", *failure)
    if report.not_json > max(1, 2 * count.taken):
        print(OVER_LINES, file=sys.stderr)
    if count.rejected:
        raise typer.Exit(INCOMPLETE)


def _run(
    job: "Ingest", inputs: list[tuple[str, BinaryIO]], reporter: ProgressReporter, limit: int
) -> tuple[str, int] | None:
    """Write every line. Return the reason and the exit code where it ended early."""
    from fhirline.streams.step1_receive.files import lines
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    total = None if any(not stream.seekable() for _, stream in inputs) else sum(_size(stream) for _, stream in inputs)
    again = "run it again: lines that are in the topic already are not duplicated"
    try:
        for name, stream in inputs:
            for line in lines(name, stream, limit):
                job.put(line)
                _show(reporter, job.count, total)
        job.finish()
    except KafkaUnavailable as error:
        job.abandon()
        return f"Kafka did not take an event ({error}); {again}", INCOMPLETE
    except KeyboardInterrupt:
        job.abandon()
        return f"interrupted; {again}", INTERRUPTED
    _show(reporter, job.count, total)
    return None


def _show(reporter: ProgressReporter, count: "Count", total: int | None) -> None:
    note = f"{count.taken:,} in the topic, {count.rejected:,} rejected"
    reporter.show("ingesting", count.bytes_read, total, note, "bytes")


class RejectReport:
    """Reports each rejected line on standard error, and copies it to the rejects file."""

    def __init__(self, reporter: ProgressReporter, rejects: BinaryIO | None) -> None:
        self._reporter = reporter
        self._rejects = rejects
        self.not_json = 0

    def __call__(self, rejected: "Rejected") -> None:
        line, reason = rejected.line, rejected.reason
        self.not_json += rejected.code == NOT_JSON
        if line.content is not None:
            size, digest = len(line.content), fingerprint(line.content)["sha256"]
            reason = f"{reason}, {counted(size, 'byte')}, SHA-256 {digest}"
        self._reporter.message(f"{line.file}:{line.number}: {reason} ({rejected.code})")
        if self._rejects is not None and line.content is not None:
            self._rejects.write(line.content + b"\n")


def _route(vendor: str, tenant: str, event: str | None, vendors_file: Path | None) -> "Route":
    """Find the route that a webhook would have taken. Raises ConfigurationError where there is none."""
    from fhirline.config.vendors import load_vendors
    from fhirline.streams.step1_receive.routes import NoRoute, Routes, events

    if event is not None and vendor in VENDORS and event not in (known := events(vendor)):
        one_of = f"one of {', '.join(sorted(known))}" if known else f"{vendor} has no events in its routes"
        raise ConfigurationError(f"--event: {one_of}")
    try:
        return Routes(load_vendors(vendors_file)).resolve(vendor, *([tenant] if event is None else [tenant, event]))
    except NoRoute as error:
        names = {"unknown-vendor": "VENDOR", "unknown-tenant": "--tenant"}
        raise ConfigurationError(f"{names.get(error.code, 'arguments')}: {error}") from None


def _received_at(given: str | None) -> "Instant | None":
    from fhirline.streams.step1_receive.raw_record import now

    at = instant("--received-at", given)
    if at is not None and at > now():
        raise ConfigurationError("--received-at: is in the future")
    return at


def _opened(file: str) -> BinaryIO:
    if file == STANDARD_INPUT:
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None


def _name(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _rejects(path: Path, inputs: list[tuple[str, BinaryIO]]) -> BinaryIO:
    """Open the rejects file for its owner only, because a rejected line is not redacted.

    It is emptied, so a file that is read is refused: corrected rejects may be all that is left of their events.
    """
    try:
        if path.is_file() and any(os.path.samestat(path.stat(), os.fstat(stream.fileno())) for _, stream in inputs):
            raise ConfigurationError(f"--rejects {path}: is one of the files to read; name another")
        return open_private(path)
    except OSError as error:
        raise ConfigurationError(f"--rejects {path}: {error.strerror}") from None
