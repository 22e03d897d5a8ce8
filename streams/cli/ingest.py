"""``fhirline ingest``: historical events from files into the raw topic."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from fhirline.config.errors import ConfigurationError, KafkaUnreachable
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.registry import VENDORS

if TYPE_CHECKING:
    from rich.progress import Progress

    from fhirline.mappers.instants import Instant
    from fhirline.streams.step1_receive.files import Count, Ingest, Rejected
    from fhirline.streams.step1_receive.routes import Route

INCOMPLETE = 1
"""Exit code where not every line is in the raw topic."""

STANDARD_INPUT = "-"


def register(app: typer.Typer) -> None:
    app.command("ingest")(ingest)


def ingest(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(VENDORS)}")],
    files: Annotated[list[str], typer.Argument(help="NDJSON files, one webhook body a line; - for standard input")],
    tenant: Annotated[str, typer.Option(help="Tenant slug")] = DEFAULT_TENANT,
    received_at: Annotated[
        str | None, typer.Option(help="RFC 3339 instant at which the events were received; default: now")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event of the ingress route (Azodha)")] = None,
    rejects: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write bad lines here as they are, not redacted; mode 0600")
    ] = None,
) -> None:
    """Put historical events into a vendor's raw topic, as if the gateway had received them.

    A bad line is reported as file:line on standard error and stops nothing. A line put twice is one event, so an
    ingest that was interrupted is simply run again.

    Exit 0: every line is in the topic, acknowledged. Exit 1: some were rejected, or Kafka stopped answering. Exit 2:
    a wrong argument or setting.
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
        report = Report(stack.enter_context(_rejects(rejects)) if rejects else None)
        try:
            job = Ingest(settings, route, at, report)
        except TopicMissing as missing:
            raise ConfigurationError(f"topic {missing} does not exist; run: fhirline topics apply") from None
        except KafkaUnavailable as error:
            raise KafkaUnreachable(f"FHIRLINE_BOOTSTRAP: no answer from {settings.bootstrap} ({error})") from None
        failure = _run(job, inputs, report, settings.message_max_bytes)
    _summarize(job.count, failure)
    raise typer.Exit(INCOMPLETE if failure or job.count.rejected else 0)


def _run(job: "Ingest", inputs: list[tuple[str, BinaryIO]], report: "Report", limit: int) -> str | None:
    """Put every line; None, or what ended it early."""
    from fhirline.streams.step1_receive.files import lines
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    with _progress(inputs, report) as advance:
        try:
            for name, stream in inputs:
                for line in lines(name, stream, limit):
                    job.put(line)
                    advance(job.count)
            job.finish()
        except KafkaUnavailable as error:
            job.abandon()
            return f"Kafka did not take an event ({error}); run it again: what is in the topic already does no harm"
        except KeyboardInterrupt:
            job.abandon()
            return "interrupted; run it again: what is in the topic already does no harm"
        advance(job.count)
    return None


class Report:
    """Tells of each rejected line on standard error, above the progress bar where there is one."""

    def __init__(self, rejects: BinaryIO | None) -> None:
        self._rejects = rejects
        self.bar: Progress | None = None

    def __call__(self, rejected: "Rejected") -> None:
        line = rejected.line
        text = f"{line.file}:{line.number}: {rejected.reason} ({rejected.code})"
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr)
        if self._rejects is not None and line.content is not None:
            self._rejects.write(line.content + b"\n")


@contextmanager
def _progress(inputs: list[tuple[str, BinaryIO]], report: Report) -> Iterator["Callable[[Count], None]"]:
    """A progress bar over the bytes of all files, on a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    total = None if any(not stream.seekable() for _, stream in inputs) else sum(_size(each) for _, each in inputs)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        report.bar = bar
        task = bar.add_task("", total=total)

        def advance(count: "Count") -> None:
            said = f"{count.taken:,} in the topic, {count.rejected:,} rejected"
            bar.update(task, completed=count.bytes_read, description=said)

        yield advance
    report.bar = None


def _summarize(count: "Count", failure: str | None) -> None:
    print(
        f"{count.read:,} lines: {count.taken:,} in the topic, {count.rejected:,} rejected, {count.blank:,} blank",
        flush=True,
    )
    if failure:
        print(f"fhirline ingest: {failure}", file=sys.stderr)


def _route(vendor: str, tenant: str, event: str | None, vendors_file: Path | None) -> "Route":
    """The route that a webhook would have taken; the arguments are wrong where there is none."""
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
    from fhirline.mappers.instants import Instant
    from fhirline.streams.step1_receive.raw_record import now

    if given is None:
        return None
    at = Instant.parse(given)
    if at is None:
        raise ConfigurationError("--received-at: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
    if at > now():
        raise ConfigurationError("--received-at: lies in the future")
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


def _rejects(path: Path) -> BinaryIO:
    """The rejects file, for its owner only: a rejected line is not redacted."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise ConfigurationError(f"--rejects {path}: {error.strerror}") from None
