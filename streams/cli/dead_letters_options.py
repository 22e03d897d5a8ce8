"""The options of ``fhirline dead-letters`` that choose letters."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from config.errors import ConfigurationError

if TYPE_CHECKING:
    from mappers.instants import Instant
    from streams.dead_letters.selection import Filter


class StatusName(StrEnum):
    """`streams.dead_letters.letters.Status`, named here so that ``--help`` need not import what reads Kafka."""

    open = "open"
    redriven = "redriven"
    failed_again = "failed-again"
    done = "done"


class Form(StrEnum):
    """How letters are exported."""

    jsonl = "jsonl"
    files = "files"


Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this one (of `list --each`)")]
Vendors = Annotated[list[str] | None, typer.Option("--vendor", metavar="VENDOR", help="Only of this vendor")]
Tenants = Annotated[list[str] | None, typer.Option("--tenant", metavar="TENANT", help="Only of this tenant")]
Codes = Annotated[list[str] | None, typer.Option("--code", metavar="CODE", help="Only with this error code")]
Paths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATH", help="Only where this path fails; * stands for anything"),
]
Versions = Annotated[
    list[str] | None, typer.Option("--mapping-version", metavar="VERSION", help="Only what this version refused")
]
EventTypes = Annotated[list[str] | None, typer.Option("--event-type", metavar="TYPE", help="Only of this event type")]
Statuses = Annotated[list[StatusName] | None, typer.Option("--status", help="Only what this has become of")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only events received then or later (RFC 3339)")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only events received before (RFC 3339)")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of the table")]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="With key and payload, patients' data; an audit event is logged")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it is revealed; goes into the audit event")]


def filter_of(
    ids: list[str] | None,
    vendors: list[str] | None = None,
    tenants: list[str] | None = None,
    codes: list[str] | None = None,
    paths: list[str] | None = None,
    versions: list[str] | None = None,
    event_types: list[str] | None = None,
    statuses: list[StatusName] | None = None,
    since: str | None = None,
    until: str | None = None,
) -> "Filter":
    """The filter that the options say; imports what it needs when it is called."""
    from streams.dead_letters.letters import Status
    from streams.dead_letters.selection import Filter

    return Filter(
        frozenset(ids or ()),
        frozenset(vendors or ()),
        frozenset(tenants or ()),
        frozenset(codes or ()),
        frozenset(paths or ()),
        frozenset(versions or ()),
        frozenset(event_types or ()),
        frozenset(Status(each.value) for each in statuses or ()),
        _instant("--since", since),
        _instant("--until", until),
    )


def _instant(option: str, given: str | None) -> "Instant | None":
    from mappers.instants import Instant

    if given is None:
        return None
    if (at := Instant.parse(given)) is not None:
        return at
    raise ConfigurationError(f"{option}: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
