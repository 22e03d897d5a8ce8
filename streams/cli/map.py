"""``fhirline map``: the pure core on files, without Kafka."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import load_settings
from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, open_envelope
from fhirline.mappers.pipeline.lineage import Lineage, lineage
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from fhirline.mappers.registry import VENDORS, vendor_mapping

UNMAPPED = 2
"""Exit code where an event could not be mapped."""

EPOCH = Instant.from_unix(Decimal(0))
END_OF_TIME = Instant.parse("9999-12-31T00:00:00Z")


def register(app: typer.Typer) -> None:
    app.command("map")(map_)


def map_(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(VENDORS)}")],
    files: Annotated[list[str] | None, typer.Argument(help="JSON files; - or none: standard input")] = None,
    ndjson: Annotated[bool, typer.Option("--ndjson", help="One body a line; the events feed the same folds")] = False,
    resources: Annotated[bool, typer.Option("--resources", help="One resource a line instead of the Bundle")] = False,
    outcome: Annotated[bool, typer.Option("--outcome", help="The OperationOutcome on standard error")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Instead of resources: where each of their values came from")
    ] = False,
    counts: Annotated[
        bool,
        typer.Option("--counts", help="At the end, on standard error: code tables without a row, paths without a rule"),
    ] = False,
    tenant: Annotated[str, typer.Option(help="Tenant slug")] = DEFAULT_TENANT,
    received_at: Annotated[
        str | None, typer.Option(help="RFC 3339 instant of receipt; default: the event's own time, else 1970-01-01")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event of the ingress route (Azodha)")] = None,
) -> None:
    """Map webhook bodies to FHIR: each event's transaction Bundle on standard output. Same input, same bytes, always.

    With --explain each line says where a value came from: JSON Pointers into the body, the event's surroundings
    ("event key", "received at", "tenant", "configuration …", "earlier events"), or a rule of the mapping.

    Exit 0: mapped. Exit 2: something could not be mapped; the reason is on standard error, without payload.
    """
    import re

    from fhirline.mappers.pipeline.factory import build_normalizer

    if explain and resources:
        raise ConfigurationError("--explain: stands instead of resources; leave out --resources")
    if vendor not in VENDORS:
        raise ConfigurationError(f"VENDOR: unknown vendor {vendor!r}; one of {', '.join(VENDORS)}")
    if not re.fullmatch(SLUG, tenant):
        raise ConfigurationError(f"--tenant: must match {SLUG}")
    at = Instant.parse(received_at) if received_at is not None else None
    if received_at is not None and at is None:
        raise ConfigurationError("--received-at: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
    normalize, memory, counted, failed = build_normalizer(load_settings()), InMemoryState(), Counts(), False
    for name, body in _bodies(files or ["-"], ndjson):
        try:
            envelope = _envelope(vendor, tenant, body, at, event)
        except UnreadableBody as error:
            print(f"fhirline map: {name}: {error} ({error.code})", file=sys.stderr)
            failed = True
            continue
        result = normalize(envelope, memory)
        if explain:
            if ndjson or len(files or ()) > 1:
                print(f"# {name} {result.event_type}")
            _explain(lineage(normalize, envelope, memory))
        elif resources:
            sys.stdout.buffer.writelines(output.value + b"\n" for output in result.outputs)
        elif result.bundle:
            sys.stdout.buffer.write(result.bundle.value + b"\n")
        memory.apply(result.state_updates)
        counted.add(result)
        failed |= _report(result, name, outcome)
    sys.stdout.buffer.flush()
    if counts:
        counted.report()
    raise typer.Exit(UNMAPPED if failed else 0)


def _bodies(files: list[str], ndjson: bool) -> Iterator[tuple[str, bytes]]:
    """Each body with a name for messages: ``file`` or ``file:line``."""
    for file in files:
        try:
            stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115  # closed below
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}") from None
        name = "standard input" if file == "-" else file
        with stream:
            if ndjson:
                yield from ((f"{name}:{n}", line) for n, line in enumerate(stream, 1) if line.strip())
            else:
                yield name, stream.read()


def _envelope(vendor: str, tenant: str, body: bytes, at: Instant | None, event: str | None) -> Envelope:
    """The envelope; without ``--received-at`` the event's own time stands for its receipt: no clock is read."""
    assert EPOCH
    assert END_OF_TIME
    opened = open_envelope(vendor, tenant, body, at or END_OF_TIME, event)
    if at is not None:
        return opened
    own = vendor_mapping(vendor).event_time(opened)
    return opened.received_first(EPOCH if own.from_received else own.instant)


def _report(result: Normalized, name: str, outcome: bool) -> bool:
    """Say on standard error what is to be said of one event; whether it could not be mapped."""
    if outcome and result.outcome:
        sys.stdout.flush()
        sys.stderr.buffer.write(result.outcome.value + b"\n")
        sys.stderr.flush()
    for refusal in result.refusals:
        paths = ", ".join(f"{each.path} ({each.code})" for each in refusal.problems) or "see --outcome"
        print(f"fhirline map: {name}: {refusal.resource_type} {refusal.code}: {paths}", file=sys.stderr)
    codes = {flag.code for flag in result.flags}
    if "not-supported" in codes:
        print(f"fhirline map: {name}: event type not supported; nothing was mapped", file=sys.stderr)
    return bool(result.refusals) or "not-supported" in codes


def _explain(found: list[Lineage]) -> None:
    """One event's lineage: aligned on a terminal, else ``resource``, ``output path``, ``source``, tab-separated."""
    if not sys.stdout.isatty():
        print("".join(f"{each.resource}\t{each.path}\t{each.source}\n" for each in found), end="")
        return
    width = max((len(each.path) for each in found), default=0)
    for resource, leaves in groupby(found, lambda each: each.resource):
        print(f"\n{resource}")
        print("".join(f"  {each.path:{width}}  {each.source}\n" for each in leaves), end="")


@dataclass(slots=True)
class Counts:
    """What no table has a row for and no rule names, over all events: without a value of theirs."""

    events: int = 0
    unmapped: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)

    def add(self, result: Normalized) -> None:
        self.events += 1
        self.unmapped.update(result.unmapped)
        self.drift.update(result.schema_drift)

    def report(self) -> None:
        """``what``, ``where``, ``how often``, tab-separated, the most frequent first."""
        lines = [("events", "", self.events)]
        for what, counter in (("no row in table", self.unmapped), ("no rule for path", self.drift)):
            lines += [
                (what, where, count) for where, count in sorted(counter.items(), key=lambda each: (-each[1], each))
            ]
        sys.stdout.flush()
        print("".join(f"{what}\t{where}\t{count}\n" for what, where, count in lines), end="", file=sys.stderr)
