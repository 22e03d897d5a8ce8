"""``fhirline map``: the pure core on files, without Kafka."""

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigurationError
from config.settings import load_settings
from config.vendors import DEFAULT_TENANT, SLUG
from mappers.envelope import Envelope, UnreadableBody, open_envelope
from mappers.instants import Instant
from mappers.normalize import Memory, Normalized
from mappers.registry import VENDORS, vendor_mapping

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
    tenant: Annotated[str, typer.Option(help="Tenant slug")] = DEFAULT_TENANT,
    received_at: Annotated[
        str | None, typer.Option(help="RFC 3339 instant of receipt; default: the event's own time, else 1970-01-01")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event of the ingress route (Azodha)")] = None,
) -> None:
    """Map webhook bodies to FHIR: each event's transaction Bundle on standard output. Same input, same bytes, always.

    Exit 0: mapped. Exit 2: something could not be mapped; the reason is on standard error, without payload.
    """
    import re

    from mappers.session import normalizer

    if vendor not in VENDORS:
        raise ConfigurationError(f"VENDOR: unknown vendor {vendor!r}; one of {', '.join(VENDORS)}")
    if not re.fullmatch(SLUG, tenant):
        raise ConfigurationError(f"--tenant: must match {SLUG}")
    at = Instant.parse(received_at) if received_at is not None else None
    if received_at is not None and at is None:
        raise ConfigurationError("--received-at: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
    normalize, memory, failed = normalizer(load_settings()), Memory(), False
    for name, body in _bodies(files or ["-"], ndjson):
        try:
            envelope = _envelope(vendor, tenant, body, at, event)
        except UnreadableBody as error:
            print(f"fhirline map: {name}: {error} ({error.code})", file=sys.stderr)
            failed = True
            continue
        result = normalize(envelope, memory)
        memory.remember(result.statements)
        failed |= _write(result, name, resources, outcome)
    sys.stdout.buffer.flush()
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


def _write(result: Normalized, name: str, resources: bool, outcome: bool) -> bool:
    """Write one event's result; whether it could not be mapped."""
    out = sys.stdout.buffer
    if resources:
        out.writelines(output.value + b"\n" for output in result.outputs)
    elif result.bundle:
        out.write(result.bundle.value + b"\n")
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
