"""``fhirline status``: what has come in, what of it waits, how fast it moves, and what could not be mapped."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.settings import Settings, load_settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.observe.interrupt import ctrl_c
from fhirline.topics.declared import declared

if TYPE_CHECKING:
    from rich.console import Console
    from rich.console import Group as Shown

    from fhirline.streams.operate.status.reading import Reader, Reading
    from fhirline.streams.operate.status.summary import Inflow, Source, Status, Volume

TIMEOUT = 10.0
BEHIND = 1
UNKNOWN = "?"
INEXACT = "The embedded broker tells too few records: its end offsets are those of each last batch's beginning."
Table = tuple[Sequence[str], list[Sequence[str]]]


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks; rates are over that time")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Two looks, then print and end; so it is without a terminal")] = (
        False
    ),
    as_json: Annotated[bool, typer.Option("--json", help="As --once, one JSON document instead of the tables")] = False,
    topics: Annotated[bool, typer.Option("--topics", help="Every topic in a line of its own")] = False,
    max_lag: Annotated[
        int | None,
        typer.Option(min=0, help="With --once or --json: exit 1 where a raw topic's lag is larger, or not known"),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a cluster that does not answer")] = (
        TIMEOUT
    ),
) -> None:
    """Show what each vendor has sent, the workers' lag, rates, open dead letters and each vendor's last event.

    Reads offsets, groups and dead letters; joins no group, changes nothing, shows no payload. On a terminal the tables
    are live until Ctrl-C. Lag is what a group has not committed yet, in records.

    Exit 0: shown. Exit 1: --max-lag is exceeded. Exit 2: wrong settings, or no cluster answered.
    """
    from rich.console import Console

    from fhirline.streams.operate.status.reading import Reader
    from fhirline.streams.operate.status.summary import sources_of

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what fails is raised; its lines would tear the table
    settings = load_settings()
    vendors = load_vendors(settings.vendors_file)
    sources = sources_of(settings, vendors)
    groups = tuple(dict.fromkeys(each.group for each in sources))
    console = Console()
    live = console.is_terminal and not once and not as_json and max_lag is None
    with Reader(settings, vendors.names, groups, timeout) as reader:
        if live:
            _live(console, settings, sources, reader, every, topics)
            return
        before = reader.read()
        time.sleep(every)  # a rate is what comes in a time, and nothing else tells that this time is over
        found = _summary(settings, sources, reader.read(), before)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    elif console.is_terminal:
        console.print(_shown(found, topics))
    else:
        _print(found, topics)
    if max_lag is not None and (found.lag is None or found.lag > max_lag):
        raise typer.Exit(BEHIND)


def _summary(settings: Settings, sources: "Sequence[Source]", now: "Reading", before: "Reading | None") -> "Status":
    from fhirline.streams.operate.status.summary import summarize

    return summarize(settings.bootstrap, declared(settings), sources, now, before)


def _live(
    console: "Console", settings: Settings, sources: "Sequence[Source]", reader: "Reader", every: float, topics: bool
) -> None:
    """Until Ctrl-C. A cluster that goes away is said below the last figures, and asked again."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with ctrl_c() as pressed:
        before = reader.read()
    if pressed.is_set():
        return
    shown = _shown(_summary(settings, sources, before, None), topics)
    try:
        with Live(shown, console=console, auto_refresh=False, screen=topics, vertical_overflow="visible") as live:
            while not pressed.is_set():
                live.refresh()
                time.sleep(every)  # where Ctrl-C is raised
                try:
                    with ctrl_c() as pressed:
                        now = reader.read()
                except (ConfigurationError, KafkaAccessError) as error:
                    live.update(Group(shown, Text(str(error), style="red")))
                    continue
                shown = _shown(_summary(settings, sources, now, before), topics)
                live.update(shown)
                before = now
    except KeyboardInterrupt:
        return


def _shown(found: "Status", topics: bool) -> "Shown":
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    clock = time.strftime("%H:%M:%S", time.localtime(found.at))
    parts: list[RichTable | Text] = [Text(f"{found.bootstrap}, {clock}", style="dim")]
    for columns, rows in _tables(found, topics, ","):
        table = RichTable(box=box.SIMPLE_HEAD)
        for name in columns:
            table.add_column(name, justify="left" if name in LEFT else "right")
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    if not found.exact:
        parts.append(Text(INEXACT, style="dim"))
    return Group(*parts)


def _print(found: "Status", topics: bool) -> None:
    """One line a row, tab between the fields, for other programs; an empty line between two tables."""
    for number, (columns, rows) in enumerate(_tables(found, topics, "")):
        if number:
            print()
        for row in (columns, *rows):
            print("\t".join(row))
    if not found.exact:
        print(INEXACT, file=sys.stderr)


LEFT = ("vendor", "topic", "group", "state")
INFLOW = ("vendor", "topic", "group", "records", "per s", "lag", "largest", "last event", "dead letters")


def _tables(found: "Status", topics: bool, thousands: str) -> Iterator[Table]:
    """``thousands`` stands between them: a comma for readers, nothing for programs."""
    yield INFLOW, list(_inflows(found.inflows, thousands))
    rows = [
        (
            each.group.name,
            each.group.state,
            str(each.group.members),
            f"{each.partitions - each.unassigned} of {each.partitions}",
        )
        for each in found.members
    ]
    yield ("group", "state", "members", "partitions with a member"), list(rows)
    volumes = [*found.canonical, *found.others] if topics else [_together(found.canonical)]
    yield (
        ("topic", "records", "per s"),
        [(each.topic, _count(each.records, thousands), _rate(each.rate, thousands)) for each in volumes],
    )


def _inflows(inflows: "Iterable[Inflow]", thousands: str) -> Iterator[Sequence[str]]:
    told: set[str] = set()
    for each in inflows:
        all_letters = f"{_count(each.letters, thousands)} in all"
        letters = all_letters if each.dead_letters is None else _count(each.dead_letters, thousands)
        yield (
            each.vendor,
            each.topic,
            each.group,
            "missing" if each.records is None else _count(each.records, thousands),
            _rate(each.rate, thousands),
            _count(each.lag, thousands),
            _count(each.lag_most, thousands),
            _age(each.age, thousands),
            "" if each.vendor in told else letters,
        )
        told.add(each.vendor)


def _together(volumes: "Sequence[Volume]") -> "Volume":
    from fhirline.streams.operate.status.summary import Volume

    rates = [each.rate for each in volumes if each.rate is not None]
    name = f"fhir.r4.* ({len(volumes)} topics)"
    return Volume(name, sum(each.records or 0 for each in volumes), sum(rates) if rates else None)


def _count(value: int | None, thousands: str) -> str:
    return UNKNOWN if value is None else f"{value:{thousands}}"


def _rate(value: float | None, thousands: str) -> str:
    return UNKNOWN if value is None else f"{value:{thousands}.1f}"


def _age(seconds: float | None, thousands: str) -> str:
    """In the largest unit that fits; a timestamp of the future is a clock's fault, and said."""
    if seconds is None:
        return "never"
    if seconds < -1:
        return f"{-seconds:{thousands}.0f} s ahead"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:{thousands}.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
