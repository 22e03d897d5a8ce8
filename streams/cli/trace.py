"""``fhirline trace``: from a resource to the raw record that made it, and back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import NOT_FOUND
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import As, AsJson, Reason, Reveal, known_vendors, reason_to_reveal
from fhirline.streams.cli.output import counting, print_json, progress

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.operate.trace.find import EventTrace, ResourceTrace, Tracer


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "trace", trace)


def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_KEY|RESOURCE|RAW",
            help="An event key (64 hex digits), a resource (Type/id) or a raw record (topic/partition/offset).",
        ),
    ],
    vendor: Annotated[
        list[str] | None, typer.Option(help="Search the event with this vendor only. May be repeated.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the source of each element, as `fhirline map --explain` does.")
    ] = False,
    reveal: Reveal = False,
    reason: Reason = None,
    name: As = None,
    as_json: AsJson = False,
) -> None:
    """Show which raw record a resource came from, and what an event became.

    For a resource it shows the records, the Provenance of each event that made it, and their raw records. For an event
    it shows the raw records, the resources, Bundle and outcome, and the dead letters with their status. It shows
    positions and headers only; --reveal adds the raw payload.

    Exit codes:

    * 0: found; also an event of an erased patient, whose raw record is there and cannot be read.
    * 1: there is no such resource or event.
    * 2: a wrong argument or setting, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline trace Encounter/2b255f9d-8fb0-5341-a3c7-c91e6b6af3cf
    $ fhirline trace raw.altibbi/3/1742 --explain
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.kafka.reader import Scanner
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.dead_letters.view import payload_text
    from fhirline.streams.operate.trace import view
    from fhirline.streams.operate.trace.find import Tracer
    from fhirline.streams.operate.trace.raw import readable

    stated = reason_to_reveal(reveal, reason)
    settings = load_settings()
    kind = _kind(what, vendor or [])
    configure_logging(settings)
    require_topics(settings)
    with progress() as reporter, Scanner(settings, counting(reporter)) as scanner:
        tracer = Tracer(settings, scanner)
        found: ResourceTrace | EventTrace
        if kind == "resource":
            found = tracer.resource(what)
            document, lines, known = view.resource_document(found), view.resource_lines(found), bool(found.history)
            latest = tracer.latest(found)
        else:
            found = _event(tracer, what, kind, vendor or [])
            document, lines, known = view.event_document(found), view.event_lines(found), not found.nothing
            raws = readable(found.raws)
            latest = raws.get(what) or next(iter(raws.values()), None)
        if not known:
            why = tracer.missing(what) if kind == "raw record" else ""
            raise CommandFailed("trace", f"there is no {kind} {what}{why and f': {why}'}", NOT_FOUND)
        shown = [*readable(found.raws).values()]
        explained = _explained(settings, tracer, latest, what if kind == "resource" else None) if explain else []
    if reveal:
        view.audit_reveal(shown, stated, name)
    if as_json:
        more: dict[str, Any] = {"explained": explained} if explain else {}
        more |= {"payloads": {str(raw.position): view.payload(raw) for raw in shown}} if reveal else {}
        print_json(document | more)
        return
    for line in lines:
        print(line)
    if explain:
        print("\nsource of each element" if latest else "\nsource of each element: unknown, no raw record can be read")
        for leaf in explained:
            print(f"  {leaf['resource']}\t{leaf['path']}\t{leaf['source']}")
    for raw in shown if reveal else ():
        print(f"\n{raw.position}\n{payload_text(raw.value)}")


def _kind(what: str, vendors: list[str]) -> str:
    """Tell an event key, a raw record and a resource apart by their form. Raises ConfigurationError."""
    from fhirline.mappers.registry import VENDORS
    from fhirline.streams.operate.trace.kind import kind_of

    known_vendors("--vendor", vendors, VENDORS)
    if (kind := kind_of(what)) is not None:
        return kind
    raise ConfigurationError(
        "EVENT_KEY|RESOURCE|RAW: neither 64 hex digits in lower case, nor Type/id of a type that is published, nor "
        "raw.VENDOR/PARTITION/OFFSET"
    )


def _event(tracer: "Tracer", what: str, kind: str, vendors: list[str]) -> "EventTrace":
    from fhirline.streams.operate.trace.find import EventTrace
    from fhirline.streams.operate.trace.raw import event_key_of

    if kind == "event":
        return tracer.event(what, vendors=vendors)
    raw = tracer.raw(what)
    if raw is None:
        return EventTrace("")
    event_key = event_key_of(raw)
    if event_key is None and raw.key_destroyed:
        return EventTrace("", {what: raw})
    if event_key is None:
        raise ConfigurationError(f"{what}: not a readable event; see `fhirline dead-letters list`")
    return tracer.event(event_key, raw, [raw.vendor])


def _explained(
    settings: "Settings", tracer: "Tracer", raw: "ConsumerRecord | None", resource: str | None
) -> list[dict[str, str]]:
    """Return the source of each element, of one resource if it is given."""
    from fhirline.streams.operate.trace.explain import explain

    if raw is None:
        return []
    return [
        {"resource": leaf.resource, "path": leaf.path, "source": leaf.source}
        for leaf in explain(settings, tracer, raw)
        if resource in (None, leaf.resource)
    ]
