"""The options of ``fhirline dead-letters`` that choose dead letters."""

from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.options import interval

if TYPE_CHECKING:
    from fhirline.streams.operate.dead_letters.selection import Filter

FILTER = partial(typer.Option, rich_help_panel="Filter")


class StatusName(StrEnum):
    """The names of `streams.operate.dead_letters.cases.Status`, which ``--help`` need not import."""

    open = "open"
    redriven = "redriven"
    failed_again = "failed-again"
    done = "done"


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Filters. One that is given twice accepts either value; different ones must all hold."""

    id: Annotated[list[str] | None, FILTER(metavar="ID", help="Only this event, by its id in `list --each`.")] = None
    vendor: Annotated[list[str] | None, FILTER(metavar="VENDOR", help="Only this vendor.")] = None
    tenant: Annotated[list[str] | None, FILTER(metavar="TENANT", help="Only this tenant.")] = None
    code: Annotated[list[str] | None, FILTER(metavar="CODE", help="Only this error code.")] = None
    path: Annotated[
        list[str] | None, FILTER(metavar="PATH", help="Only events that fail at this path; * matches anything.")
    ] = None
    mapping_version: Annotated[
        list[str] | None, FILTER(metavar="VERSION", help="Only events that this mapping version refused.")
    ] = None
    event_type: Annotated[list[str] | None, FILTER(metavar="TYPE", help="Only this event type.")] = None
    status: Annotated[
        list[StatusName] | None,
        FILTER(metavar="STATUS", help="Only this status: open, redriven, failed-again or done."),
    ] = None
    since: Annotated[
        str | None, FILTER(metavar="TIME", help="Only events received at this RFC 3339 instant or later.")
    ] = None
    until: Annotated[str | None, FILTER(metavar="TIME", help="Only events received before this RFC 3339 instant.")] = (
        None
    )

    def filter(self) -> "Filter":
        """Return the filter. Raises ConfigurationError where an instant cannot be read."""
        from fhirline.streams.operate.dead_letters.cases import Status
        from fhirline.streams.operate.dead_letters.selection import Filter

        return Filter(
            frozenset(self.id or ()),
            frozenset(self.vendor or ()),
            frozenset(self.tenant or ()),
            frozenset(self.code or ()),
            frozenset(self.path or ()),
            frozenset(self.mapping_version or ()),
            frozenset(self.event_type or ()),
            frozenset(Status(name.value) for name in self.status or ()),
            *interval(self.since, self.until),
        )


def require_no_event_filter(chosen: FilterOptions, *others: bool) -> None:
    """Raise ConfigurationError where another filter than ``--code`` is given, which no letter of a delivery has."""
    if any(getattr(chosen, field.name) for field in fields(chosen) if field.name != "code") or any(others):
        raise ConfigurationError("--delivery: only --code can be given with it")
