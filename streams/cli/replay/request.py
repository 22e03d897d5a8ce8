"""The options of ``fhirline replay``."""

import re
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.options import instant, interval, known_vendors, slug

if TYPE_CHECKING:
    from fhirline.streams.operate.replay.selection import Selection

RANGE = partial(typer.Option, rich_help_panel="Range")
ACTION = partial(typer.Option, rich_help_panel="Action")
KEPT = partial(typer.Option, rich_help_panel="Unfinished runs")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A requested replay: which events to map again, what to compare the result with, and what to do with it."""

    vendor: Annotated[list[str] | None, RANGE(help=f"Only this vendor: {', '.join(VENDORS)}. May be repeated.")] = None
    tenant: Annotated[str | None, RANGE(help="Only this tenant.")] = None
    since: Annotated[
        str | None, RANGE(metavar="TIME", help="Only events at this RFC 3339 instant or later: 2024-01-01T00:00:00Z.")
    ] = None
    until: Annotated[str | None, RANGE(metavar="TIME", help="Only events before this RFC 3339 instant.")] = None
    as_of: Annotated[
        str | None,
        RANGE(
            metavar="TIME",
            help="All events received before this RFC 3339 instant, and none received later. Requires --to-prefix, "
            "and a prefix that is new.",
        ),
    ] = None
    time: Annotated[
        Literal["record", "event"],
        RANGE(help="What --since and --until compare: the time of receipt, or the event's own time."),
    ] = "record"
    partitions: Annotated[
        str | None, RANGE(metavar="NUMBERS", help="Only these partitions of the raw topics, such as 0,3-5.")
    ] = None
    patient: Annotated[
        str | None,
        RANGE(help="Only this patient, by the vendor's own key: what follows the tenant in a raw record's key."),
    ] = None
    event_type: Annotated[list[str] | None, RANGE(help="Only this event type. May be repeated.")] = None
    dead_letters: Annotated[bool, RANGE("--dead-letters", help="Only events that have an open dead letter.")] = False
    resume: Annotated[
        str | None, RANGE(metavar="ID", help="Continue this run, with its range. --diff or --publish may differ.")
    ] = None
    diff: Annotated[bool, ACTION("--diff/--publish", help="Compare only, or publish what differs.")] = True
    diff_out: Annotated[
        Path | None,
        ACTION(dir_okay=False, help="With --diff: write every difference, as JSON Lines, with mode 0600."),
    ] = None
    to_prefix: Annotated[
        str,
        ACTION(help="Compare with and publish to shadow topics of this prefix. Missing ones are created."),
    ] = ""
    everything: Annotated[bool, ACTION("--all", help="With --publish: also publish records that are the same.")] = False
    tombstones: Annotated[
        bool, ACTION("--tombstones", help="With --publish: also delete keys that no event makes now.")
    ] = False
    bundles: Annotated[
        bool, ACTION("--bundles", help="With --publish: also send the transaction Bundles of the range.")
    ] = False
    outcomes: Annotated[
        bool,
        ACTION("--outcomes", help="With --publish: also write the OperationOutcomes of the events again, for tables."),
    ] = False
    jobs: Annotated[
        int | None,
        ACTION(min=1, max=256, help="Number of processes. Default: one per core, or a container's CPU limit."),
    ] = None

    keep: Annotated[
        bool, KEPT("--keep", help="Keep the run's folder when it is finished; it contains patient data.")
    ] = False
    list_runs: Annotated[bool, KEPT("--list", help="List the runs whose folders exist, and do nothing else.")] = False
    discard: Annotated[str | None, KEPT(metavar="ID", help="Remove this run's folder, and do nothing else.")] = None
    yes: Annotated[bool, KEPT("--yes", "-y", help="With --discard: do not ask. Required without a terminal.")] = False

    def check(self) -> None:
        """Raise ConfigurationError where options are wrong, or do not go together."""
        if self.list_runs or self.discard is not None:
            self._check_alone()
            return
        if self.yes:
            raise ConfigurationError("--yes: requires --discard")
        selection = self.selection()
        if self.resume is None:
            self.check_selected(selection, self.to_prefix)
        if self.resume is not None and any(getattr(self, name) != default for name, default in _OF_A_NEW_RUN.items()):
            raise ConfigurationError("--resume: the run has its own range and topics; omit the other options")
        if self.diff_out is not None and not self.diff:
            raise ConfigurationError("--diff-out: requires --diff")
        if self.diff_out is not None and not self.diff_out.parent.is_dir():
            raise ConfigurationError(f"--diff-out {self.diff_out}: there is no such folder")
        for name, given in (
            ("--tombstones", self.tombstones),
            ("--bundles", self.bundles),
            ("--outcomes", self.outcomes),
            ("--all", self.everything),
        ):
            if given and self.diff:
                raise ConfigurationError(f"{name}: requires --publish")
        self._check_as_of()
        if self.to_prefix and not re.fullmatch(r"[a-zA-Z0-9._-]{1,100}", self.to_prefix):
            raise ConfigurationError("--to-prefix: letters, digits, dots, hyphens and underscores, such as shadow.")

    def _check_as_of(self) -> None:
        if self.as_of is None:
            return
        if not self.to_prefix:
            raise ConfigurationError("--as-of: requires --to-prefix; the topics themselves have what came later")
        if any(getattr(self, name) != _OF_A_NEW_RUN[name] for name in _OF_A_PART):
            raise ConfigurationError("--as-of: takes all events of a vendor; give --vendor at most")

    def _check_alone(self) -> None:
        if self.list_runs and self != ReplayRequest(list_runs=True):
            raise ConfigurationError("--list: cannot be given with other options")
        if self.discard is not None and self != ReplayRequest(discard=self.discard, yes=self.yes):
            raise ConfigurationError("--discard: cannot be given with other options than --yes")

    def check_selected(self, selection: "Selection", prefix: str) -> None:
        """Raise ConfigurationError for options that the run's selection, of a new or a resumed run, does not allow.

        ``prefix``: of the run's shadow topics.
        """
        for name, given in (("--bundles", self.bundles), ("--outcomes", self.outcomes)):
            if prefix and given:
                raise ConfigurationError(f"{name}: they have no shadow topic; omit --to-prefix")
        if self.tombstones and not selection.whole:
            raise ConfigurationError(
                "--tombstones: requires all events of a vendor; in a part, another event may make the key"
            )
        if self.outcomes and not selection.rebuilds:
            raise ConfigurationError(
                "--outcomes: requires all events of a vendor, or of partitions; in a part, events would be flagged as "
                "stale by what came after them"
            )

    def selection(self) -> "Selection":
        """Return the selected range. Raises ConfigurationError."""
        from fhirline.mappers.registry import vendor_mapping
        from fhirline.streams.operate.replay.selection import Selection

        vendors = tuple(dict.fromkeys(self.vendor or VENDORS))
        known_vendors("--vendor", vendors, VENDORS)
        interval(self.since, self.until)
        instant("--as-of", self.as_of)
        if self.tenant is not None:
            slug("--tenant", self.tenant)
        known = {
            name for vendor in vendors for name in (*vendor_mapping(vendor).events, *vendor_mapping(vendor).unmapped)
        }
        if unknown := sorted(set(self.event_type or ()) - known):
            raise ConfigurationError(f"--event-type: {unknown[0]!r} is none of {', '.join(sorted(known))}")
        return Selection(
            vendors,
            self.tenant,
            self.since,
            self.until if self.as_of is None else self.as_of,
            self.time,
            None if self.partitions is None else numbers(self.partitions),
            self.patient,
            tuple(self.event_type or ()),
            self.dead_letters,
            self.as_of is not None,
        )

    def resume_command(self, id: str) -> str:
        """Return the command that continues a run as this request began it."""
        flags = (
            ("--publish", not self.diff),
            ("--tombstones", self.tombstones),
            ("--bundles", self.bundles),
            ("--outcomes", self.outcomes),
        )
        return " ".join((f"fhirline replay --resume {id}", *(name for name, given in flags if given)))


_OF_ANY_RUN = ("resume", "diff", "diff_out", "tombstones", "bundles", "outcomes", "jobs", "list_runs", "discard", "yes")
_OF_A_NEW_RUN = {field.name: field.default for field in fields(ReplayRequest) if field.name not in _OF_ANY_RUN}
"""Options, and their defaults, that a resumed run cannot change."""

_OF_A_PART = ("tenant", "since", "until", "time", "partitions", "patient", "event_type", "dead_letters")
"""Options that leave out events."""


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers and ranges. Raises ConfigurationError, also for a range that ends before it begins.

    >>> numbers("0,3-5")
    (0, 3, 4, 5)
    """
    found: set[int] = set()
    for part in text.split(","):
        written = re.fullmatch(r"\s*([0-9]{1,6})(?:-([0-9]{1,6}))?\s*", part)
        first, last = (int(written[1]), int(written[2] or written[1])) if written else (1, 0)
        if last < first:
            raise ConfigurationError("--partitions: numbers and ranges, such as 0,3-5")
        found.update(range(first, last + 1))
    return tuple(sorted(found))
