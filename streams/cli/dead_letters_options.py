"""The options of ``fhirline dead-letters`` that choose letters."""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhirline.config.errors import ConfigurationError

if TYPE_CHECKING:
    from fhirline.mappers.instants import Instant
    from fhirline.streams.operate.dead_letters.selection import Filter


class StatusName(StrEnum):
    """`streams.operate.dead_letters.cases.Status`, named here so that ``--help`` need not import what reads Kafka."""

    open = "open"
    redriven = "redriven"
    failed_again = "failed-again"
    done = "done"


class Form(StrEnum):
    """How letters are exported."""

    jsonl = "jsonl"
    files = "files"


AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of the table")]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="With key and payload, patients' data; an audit event is logged")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it is revealed; goes into the audit event")]


def filter_of(
    id: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this one (of `list --each`)")] = None,
    vendor: Annotated[list[str] | None, typer.Option(metavar="VENDOR", help="Only of this vendor")] = None,
    tenant: Annotated[list[str] | None, typer.Option(metavar="TENANT", help="Only of this tenant")] = None,
    code: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Only with this error code")] = None,
    path: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Only where this path fails; * stands for anything")
    ] = None,
    mapping_version: Annotated[
        list[str] | None, typer.Option(metavar="VERSION", help="Only what this version refused")
    ] = None,
    event_type: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Only of this event type")] = None,
    status: Annotated[list[StatusName] | None, typer.Option(help="Only what this has become of")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only events received then or later (RFC 3339)")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only events received before (RFC 3339)")] = None,
) -> "Filter":
    """The filter that the options say; imports what it needs when it is called."""
    from fhirline.streams.operate.dead_letters.cases import Status
    from fhirline.streams.operate.dead_letters.selection import Filter

    return Filter(
        frozenset(id or ()),
        frozenset(vendor or ()),
        frozenset(tenant or ()),
        frozenset(code or ()),
        frozenset(path or ()),
        frozenset(mapping_version or ()),
        frozenset(event_type or ()),
        frozenset(Status(each.value) for each in status or ()),
        _instant("--since", since),
        _instant("--until", until),
    )


def filtered(command: Callable[..., None], *without: str) -> Callable[..., None]:
    """``command`` with `filter_of`'s options, but for ``without``, before its own; it gets the Filter as ``meant``."""
    options = [each for name, each in signature(filter_of).parameters.items() if name not in without]
    own = [each for name, each in signature(command).parameters.items() if name != "meant"]

    @wraps(command)
    def called(**given: Any) -> None:
        meant = filter_of(**{each.name: given.pop(each.name) for each in options})
        command(meant=meant, **given)

    shown = Signature(sorted([*options, *own], key=lambda each: each.default is not Parameter.empty))
    called.__signature__ = shown  # type: ignore[attr-defined]  # where typer looks for it
    called.__annotations__ = {each.name: each.annotation for each in (*options, *own)}
    return called


def _instant(option: str, given: str | None) -> "Instant | None":
    from fhirline.mappers.instants import Instant

    if given is None:
        return None
    if (at := Instant.parse(given)) is not None:
        return at
    raise ConfigurationError(f"{option}: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")
