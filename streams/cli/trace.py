"""``fhirline trace``: from a resource to the raw record that made it, and back."""

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.audit_option import As

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.operate.trace.find import EventTrace, ResourceTrace, Tracer

NOT_FOUND = 1
"""Exit code where there is no such resource or event."""


def register(app: typer.Typer) -> None:
    app.command("trace")(trace)


def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_KEY|RESOURCE|RAW",
            help="An event key (64 hex digits), a resource (Type/id), or a raw record (topic/partition/offset)",
        ),
    ],
    vendor: Annotated[list[str] | None, typer.Option(help="Look for the event only with this vendor")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also where each element came from, as `fhirline map --explain` says it")
    ] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="With the raw payload: patients' data; logged as an audit event")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why it is revealed; goes into the log")] = None,
    name: As = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines")] = False,
) -> None:
    """Show which raw record a resource came from, and what an event was made into: places and headers, no values.

    A resource: its records, the Provenance of every event that made it, and their raw records. An event: its raw
    records, the resources it made, its Bundle and outcome, its dead letters and what has become of them.

    Exit 0: found. Exit 1: there is no such resource or event. Exit 2: a wrong argument or setting, or Kafka does not
    answer.
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.worker import require_topics
    from fhirline.streams.kafka.reader import Scanner
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.observe.terminal import json_text
    from fhirline.streams.operate.dead_letters.view import payload_text
    from fhirline.streams.operate.trace import view
    from fhirline.streams.operate.trace.find import Tracer

    if reveal and not (reason or "").strip():
        raise ConfigurationError("--reason: --reveal shows patients' data; say why")
    settings = load_settings()
    kind = _kind(what, vendor or [])
    configure_logging(settings)
    require_topics(settings)
    with Scanner(settings, _progress()) as scanner:
        tracer = Tracer(settings, scanner)
        found: ResourceTrace | EventTrace
        if kind == "resource":
            found = tracer.resource(what)
            document, lines, known = view.resource_document(found), view.resource_lines(found), bool(found.history)
            latest = tracer.latest(found)
        else:
            found = _event(tracer, what, kind, vendor or [])
            document, lines, known = view.event_document(found), view.event_lines(found), not found.nothing
            latest = found.raws.get(what) or next((raw for raw in found.raws.values() if raw is not None), None)
        if not known:
            print(f"fhirline trace: there is no {kind} {what}", file=sys.stderr)
            raise typer.Exit(NOT_FOUND)
        raws = [raw for raw in found.raws.values() if raw is not None]
        explained = _explained(settings, tracer, latest, what if kind == "resource" else None) if explain else []
    if reveal:
        view.revealed(raws, (reason or "").strip(), name)
    if as_json:
        more: dict[str, Any] = {"explained": explained} if explain else {}
        more |= {"payloads": {str(raw.position): view.payload(raw) for raw in raws}} if reveal else {}
        print(json_text(document | more))
        return
    for line in lines:
        print(line)
    if explain:
        print("\nwhere its elements came from" if latest else "\nwhere its elements came from: its raw record is gone")
        for each in explained:
            print(f"  {each['resource']}\t{each['path']}\t{each['source']}")
    for raw in raws if reveal else ():
        print(f"\n{raw.position}\n{payload_text(raw.value)}")


def _kind(what: str, vendors: list[str]) -> str:
    from fhirline.mappers.registry import VENDORS
    from fhirline.topics.declared import RESOURCE_TYPES

    if unknown := sorted(set(vendors) - set(VENDORS)):
        raise ConfigurationError(f"--vendor: unknown vendor {unknown[0]!r}; one of {', '.join(VENDORS)}")
    if re.fullmatch(r"[0-9a-f]{64}", what):
        return "event"
    if re.fullmatch(rf"raw\.({'|'.join(VENDORS)})(\.enriched)?/\d{{1,9}}/\d{{1,18}}", what):
        return "raw record"
    if re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]{1,64}", what) and what.partition("/")[0] in RESOURCE_TYPES:
        return "resource"
    raise ConfigurationError(
        "EVENT_KEY|RESOURCE|RAW: neither 64 hex digits, nor Type/id of a type that is made here, nor raw.VENDOR/"
        "PARTITION/OFFSET"
    )


def _event(tracer: "Tracer", what: str, kind: str, vendors: list[str]) -> "EventTrace":
    from fhirline.streams.operate.trace.find import EventTrace, event_key_of

    if kind == "event":
        return tracer.event(what, vendors=vendors)
    raw = tracer.raw(what)
    if raw is None:
        return EventTrace("")
    if (event_key := event_key_of(raw)) is None:
        raise ConfigurationError(f"{what}: is no event that can be read; `fhirline dead-letters list` has it")
    return tracer.event(event_key, raw, [raw.vendor])


def _explained(
    settings: "Settings", tracer: "Tracer", raw: "ConsumerRecord | None", resource: str | None
) -> list[dict[str, str]]:
    """Lineage of the elements by the mapping as it is now, with what earlier events of the same key left."""
    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.mappers.pipeline.lineage import lineage
    from fhirline.mappers.pipeline.normalize import InMemoryState
    from fhirline.streams.step4_normalize.follow import follow
    from fhirline.streams.step4_normalize.raw_event import envelope_of

    if raw is None:
        return []
    normalize, memory = build_normalizer(settings), InMemoryState()
    for each in tracer.earlier(raw):
        memory.apply(follow(each, normalize, memory, settings.partitions).state_updates)
    return [
        {"resource": each.resource, "path": each.path, "source": each.source}
        for each in lineage(normalize, envelope_of(raw), memory)
        if resource in (None, each.resource)
    ]


def _progress() -> Any:
    """Records read, once a second, on a terminal."""
    from time import monotonic

    if not sys.stderr.isatty():
        return None
    read, said = 0, monotonic()

    def count(topic: str, records: int) -> None:
        nonlocal read, said
        read += records
        if monotonic() - said > 1:
            said = monotonic()
            print(f"{topic}: {read:,} records read", file=sys.stderr)

    return count
