"""``fhirline map``: the mapping of files, without Kafka."""

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import UNMAPPED
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.bodies import bodies, hint_of_lines
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.cli.options import Tenant, instant, known_vendors, slug
from fhirline.streams.observe.terminal import printable

if TYPE_CHECKING:
    from fhirline.mappers.pipeline.lineage import Lineage
    from fhirline.mappers.pipeline.normalize import Normalized
    from fhirline.streams.operate.terminology.missing import Missing


def register(app: typer.Typer) -> None:
    add(app, TRY, "map", map_)


def map_(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(VENDORS)}.")],
    files: Annotated[list[str] | None, typer.Argument(help="JSON files. Default, and -: standard input.")] = None,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Read one body per line. The events share one state, in their order.")
    ] = False,
    resources: Annotated[
        bool, typer.Option("--resources", help="Print one resource per line instead of the Bundle.")
    ] = False,
    outcome: Annotated[
        bool, typer.Option("--outcome", help="Print each event's OperationOutcome on standard error.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the source of each value instead of the resources.")
    ] = False,
    counts: Annotated[
        bool,
        typer.Option("--counts", help="Count, on standard error, words without a row and paths without a rule."),
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    received_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="RFC 3339 instant of receipt. Default: the event's own time, or 1970-01-01 without one.",
        ),
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event of the webhook's route (Azodha).")] = None,
) -> None:
    """Map webhook bodies to FHIR without Kafka, and print a transaction Bundle per event.

    The same input always gives the same bytes. With --explain each line is a resource, a path in it, and the source of
    the value: a JSON Pointer into the body, a part of the event's context ("event key", "received at", "tenant",
    "configuration …", "earlier events"), or "rule". It also reports, on standard error, values that the mapping reads
    and that are in no resource.

    Exit codes:

    * 0: every event was mapped.
    * 2: a file or an event could not be read or mapped (the reason is on standard error); a wrong argument or setting.

    Examples:

    ```console
    $ fhirline map altibbi --outcome streams/demo/samples/altibbi-status.json
    $ fhirline map mediquo --tenant acme --ndjson --counts export.ndjson > bundles.ndjson
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.mappers.pipeline.envelope import UnreadableBody, open_envelope
    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.mappers.pipeline.limits import TooComplex
    from fhirline.mappers.pipeline.lineage import lineage, unused
    from fhirline.mappers.pipeline.normalize import InMemoryState
    from fhirline.mappers.registry import open_without_receipt
    from fhirline.streams.operate.terminology.missing import Missing

    if explain and resources:
        raise ConfigurationError("--explain: prints sources instead of resources; omit --resources")
    known_vendors("VENDOR", [vendor], VENDORS)
    slug("--tenant", tenant)
    at = instant("--received-at", received_at)
    normalize, state, failed = build_normalizer(load_settings()), InMemoryState(), False
    missing = Missing(normalize.terminology)
    for name, body in bodies(files or ["-"], ndjson):
        try:
            if at:
                envelope = open_envelope(vendor, tenant, body, at, event)
            else:
                envelope = open_without_receipt(vendor, tenant, body, event)
        except UnreadableBody as error:
            warn("map", f"{name}: {error} ({error.code}){'' if ndjson else hint_of_lines(body)}")
            failed = True
            continue
        try:
            result = normalize(envelope, state)
        except TooComplex as error:
            warn("map", f"{name}: {error} (too-complex)")
            failed = True
            continue
        if explain:
            if ndjson or len(files or ()) > 1:
                print(f"# {name} {result.event_type}")
            found = lineage(normalize, envelope, state)
            _print_lineage(found)
            if left := unused(found, result.ledger):
                warn("map", f"{name}: read by the mapping, and in no resource: {', '.join(left)}")
        elif resources:
            sys.stdout.buffer.writelines(output.value + b"\n" for output in result.outputs)
        elif result.bundle:
            sys.stdout.buffer.write(result.bundle.value + b"\n")
        state.apply(result.state_updates)
        missing.add(result, envelope.body)
        failed |= _report(result, name, outcome)
    sys.stdout.buffer.flush()
    if counts:
        _print_counts(missing)
    if failed:
        raise typer.Exit(UNMAPPED)


def _report(result: "Normalized", name: str, outcome: bool) -> bool:
    """Report one event on standard error. Return whether it, or a part of it, could not be mapped."""
    if outcome and result.outcome:
        sys.stdout.flush()
        sys.stderr.buffer.write(result.outcome.value + b"\n")
        sys.stderr.flush()
    for refusal in result.refusals:
        paths = ", ".join(f"{problem.path} ({problem.code})" for problem in refusal.problems) or "see --outcome"
        warn("map", f"{name}: {refusal.resource_type} {refusal.code}: {paths}")
    codes = {flag.code for flag in result.flags}
    if "not-supported" in codes:
        warn("map", f"{name}: event type not supported; nothing was mapped")
    return bool(result.refusals) or "not-supported" in codes


def _print_lineage(found: "list[Lineage]") -> None:
    """Print one event's lineage: aligned on a terminal, else resource, output path and source, tab-separated."""
    if not sys.stdout.isatty():
        print("".join(f"{leaf.resource}\t{leaf.path}\t{leaf.source}\n" for leaf in found), end="")
        return
    width = max((len(leaf.path) for leaf in found), default=0)
    for resource, leaves in groupby(found, lambda leaf: leaf.resource):
        print(f"\n{resource}")
        print("".join(f"  {leaf.path:{width}}  {leaf.source}\n" for leaf in leaves), end="")


def _print_counts(found: "Missing") -> None:
    """Print what is missing, where and how often, tab-separated, the most frequent first."""
    lines: list[tuple[str, str, int]] = [("events", "", found.events)]
    for what, counter in (("no row in table", found.tables), ("no rule for path", found.drift)):
        lines += [(what, where, count) for where, count in sorted(counter.items(), key=lambda item: (-item[1], item))]
    lines += [("no row for word", f"{word.table}: {printable(word.spelling)}", word.times) for word in found.words()]
    lines += [("word not shown", table, count) for table, count in sorted(found.hidden.items())]
    sys.stdout.flush()
    print("".join(f"{what}\t{where}\t{count}\n" for what, where, count in lines), end="", file=sys.stderr)
