"""Options that several commands share, and commands whose options are the fields of a dataclass."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fhirline.config.errors import ConfigurationError

if TYPE_CHECKING:
    from fhirline.mappers.instants import Instant

Request = TypeVar("Request")

TIMEOUT = 10.0
"""Seconds until a cluster that does not answer is given up."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Timeout = Annotated[float, typer.Option(min=0.1, max=3_600, help="Seconds to wait for a cluster that does not answer.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Required without a terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Tenant = Annotated[str, typer.Option(help="Tenant slug.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Include patient data. Needs --reason; writes an audit event.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="The reason, for the audit event.")]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Your name, for the audit event, which also has the system's user."),
]


def instant(option: str, given: str | None) -> "Instant | None":
    """Read an instant. Raises ConfigurationError unless it is RFC 3339 with a zone."""
    from fhirline.mappers.instants import Instant

    if given is None:
        return None
    if (at := Instant.parse(given)) is not None:
        return at
    raise ConfigurationError(f"{option}: not an RFC 3339 instant with a zone, such as 2024-01-01T00:00:00Z")


def interval(since: str | None, until: str | None) -> "tuple[Instant | None, Instant | None]":
    """Read ``--since`` and ``--until``. Raises ConfigurationError, also where they select nothing."""
    first, end = instant("--since", since), instant("--until", until)
    if first is not None and end is not None and not first < end:
        raise ConfigurationError("--until: is not later than --since, so nothing is selected")
    return first, end


def known_vendors(option: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigurationError where a vendor is unknown."""
    if unknown := sorted(set(given) - set(known)):
        raise ConfigurationError(f"{option}: unknown vendor {unknown[0]!r}; one of {', '.join(known)}")


def known_values(option: str, given: Iterable[str], known: Collection[str], hint: str = "") -> None:
    """Raise ConfigurationError where a value is unknown. ``hint`` replaces the list of the known ones."""
    from fhirline.streams.observe.terminal import printable

    if unknown := sorted(set(given) - set(known)):
        listed = hint or f"known are {', '.join(map(printable, sorted(known)))}"
        raise ConfigurationError(f"{option}: unknown value {printable(unknown[0])!r}: {listed}")


def slug(option: str, given: str) -> None:
    """Raise ConfigurationError unless the text is a tenant slug."""
    import re

    from fhirline.config.vendors import SLUG

    if not re.fullmatch(SLUG, given):
        raise ConfigurationError(f"{option}: must match {SLUG}")


def reason_to_reveal(reveal: bool, reason: str | None) -> str:
    """Return the reason. Raises ConfigurationError where patient data is asked for without one."""
    stated = (reason or "").strip()
    if reveal and not stated:
        raise ConfigurationError("--reveal: shows patient data; state why with --reason, for the audit event")
    return stated


def from_options(
    request: type[Request], command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """Make a command whose options are the fields of a dataclass, before its own options.

    Each field is annotated as a parameter of a command would be. ``command`` gets the dataclass as its first argument.
    ``without``: fields that are not offered and keep their defaults.
    """
    taken = [field for field in fields(request) if field.name not in without]  # type: ignore[arg-type]  # a dataclass
    of_request = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=field.type) for field in taken
    ]
    own = [*signature(command).parameters.values()][1:]
    names = {parameter.name for parameter in of_request}

    @wraps(command)
    def called(**given: Any) -> None:
        command(request(**{name: given.pop(name) for name in names}), **given)

    shown = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in (*of_request, *own)]
    called.__signature__ = Signature(shown)  # type: ignore[attr-defined]  # where typer looks for it
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return called


def _default(field: Any) -> Any:
    from dataclasses import MISSING

    return Parameter.empty if field.default is MISSING else field.default
