"""``fhirline status``: what has come in, what of it waits, how fast it moves, and what could not be mapped."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.exit_codes import LAG_EXCEEDED
from fhirline.config.settings import Settings, load_settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import TIMEOUT, AsJson, Timeout
from fhirline.streams.cli.output import Cell, print_json, print_rows, table
from fhirline.streams.kafka.embedded_quirks import LIMITS
from fhirline.streams.observe.interrupt import ctrl_c
from fhirline.streams.observe.terminal import counted
from fhirline.topics.declared import declared

if TYPE_CHECKING:
    from rich.console import Group as Shown

    from fhirline.streams.operate.status.reading import Reader, Reading
    from fhirline.streams.operate.status.summary import Inflow, Source, Status, Volume

UNKNOWN = "?"
INEXACT = f"This is the embedded broker, for trying and testing: {'; '.join(LIMITS)}."
Rows = tuple[Sequence[str], list[Sequence[Cell]]]


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "status", status)


def status(
    every: Annotated[
        float, typer.Option(min=0.2, max=3_600, help="Seconds between two readings, over which rates are taken.")
    ] = (2.0),
    once: Annotated[
        bool, typer.Option("--once", help="Take two readings, print the tables and exit. Default without a terminal.")
    ] = False,
    as_json: AsJson = False,
    topics: Annotated[bool, typer.Option("--topics", help="Show each topic in a row of its own.")] = False,
    max_lag: Annotated[
        int | None,
        typer.Option(min=0, help="Exit with 1 where a raw topic's lag is larger, or unknown. Implies --once."),
    ] = None,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Show each vendor's events, the workers' lag, rates and open dead letters.

    On a terminal the tables are refreshed until Ctrl-C. Lag is the number of records that a consumer group has not
    committed yet. The command reads offsets, groups and dead letters. It joins no group, changes nothing, and shows no
    payload.

    Exit codes:

    * 0: shown.
    * 1: the lag exceeds --max-lag, or is unknown.
    * 2: a wrong setting, or the cluster does not answer.

    Example, for a script:

    ```console
    $ fhirline status --max-lag 10000 --json
    ```
    """
    from rich.console import Console

    from fhirline.streams.operate.status.reading import Reader
    from fhirline.streams.operate.status.summary import sources_of

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are raised; its lines would tear the table
    settings = load_settings()
    vendors = load_vendors(settings.vendors_file)
    sources = sources_of(settings, vendors)
    groups = tuple(dict.fromkeys(source.group for source in sources))
    live = sys.stdout.isatty() and not once and not as_json and max_lag is None
    with Reader(settings, vendors.names, groups, timeout) as reader:
        if live:
            _live(settings, sources, reader, every, topics)
            return
        before = reader.read()
        time.sleep(every)  # a rate is measured over this time; there is nothing else to wait for
        found = _summary(settings, sources, reader.read(), before)
    if as_json:
        print_json(found.as_json())
    elif sys.stdout.isatty():
        Console().print(_shown(found, topics))
    else:
        _print(found, topics)
    if max_lag is not None and (found.lag is None or found.lag > max_lag):
        raise typer.Exit(LAG_EXCEEDED)


def _summary(settings: Settings, sources: "Sequence[Source]", now: "Reading", before: "Reading | None") -> "Status":
    from fhirline.streams.operate.status.summary import summarize
    from fhirline.streams.operate.status.warehouse import read_tables

    tables = read_tables(settings, now.ends)
    return summarize(settings.bootstrap, declared(settings), sources, now, before, tables)


def _live(settings: Settings, sources: "Sequence[Source]", reader: "Reader", every: float, topics: bool) -> None:
    """Refresh the tables until Ctrl-C. An error is shown below the last figures, and the cluster is asked again."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with ctrl_c() as pressed:
        before = reader.read()
    if pressed.is_set():
        return
    shown = _shown(_summary(settings, sources, before, None), topics)
    try:
        with Live(shown, auto_refresh=False, screen=topics, vertical_overflow="visible") as live:
            while not pressed.is_set():
                live.refresh()
                time.sleep(every)  # raises KeyboardInterrupt on Ctrl-C
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
    from rich.text import Text

    clock = time.strftime("%H:%M:%S", time.localtime(found.at))
    tables = (table(columns, rows, box=box.SIMPLE_HEAD) for columns, rows in _tables(found, topics))
    notes = () if found.exact else (Text(INEXACT, style="dim"),)
    return Group(Text(f"{found.bootstrap}, {clock}", style="dim"), *tables, *notes)


def _print(found: "Status", topics: bool) -> None:
    """Print the tables as tab-separated rows, with an empty line between two tables."""
    for number, (columns, rows) in enumerate(_tables(found, topics)):
        if number:
            print()
        print_rows(columns, rows)
    if not found.exact:
        print(INEXACT, file=sys.stderr)


INFLOW = ("vendor", "topic", "group", "records", "per s", "lag", "largest", "last event", "dead letters")


def _tables(found: "Status", topics: bool) -> Iterator[Rows]:
    yield INFLOW, list(_inflows(found.inflows))
    members: list[Sequence[Cell]] = [
        (
            members.group.name,
            members.group.state,
            "unknown" if members.group.unnamed else members.group.members,
            f"{'unknown' if members.group.unnamed else members.partitions - members.unassigned} of "
            f"{members.partitions}",
        )
        for members in found.members
    ]
    yield ("group", "state", "members", "partitions with a member"), members
    if found.parked is not None:
        yield (
            ("waiting for the FHIR server", "count"),
            [
                ("parked patients", found.parked.patients),
                ("their Bundles", found.parked.bundles),
            ],
        )
    volumes = [*found.canonical, *found.others] if topics else [_together(found.canonical)]
    yield (
        ("topic", "records", "per s"),
        [(volume.topic, _known(volume.records), _known(volume.rate)) for volume in volumes],
    )
    if (tables := found.tables) is not None:
        age = None if tables.complete_at is None else found.at - tables.complete_at
        state = (tables.database, _known(tables.lag), _known(tables.lag_most), tables.problem or _age(age))
        yield ("sql tables", "lag", "largest", "complete"), [state]


def _inflows(inflows: "Iterable[Inflow]") -> Iterator[Sequence[Cell]]:
    """Make the rows. A vendor's dead letters are in the first row of the vendor only."""
    from fhirline.streams.operate.status.summary import ALL

    seen: set[str] = set()
    for inflow in inflows:
        letters: Cell = f"{inflow.letters} in all" if inflow.dead_letters is None else inflow.dead_letters
        yield (
            inflow.vendor,
            inflow.topic,
            inflow.group,
            "missing" if inflow.records is None else inflow.records,
            _known(inflow.rate),
            _known(inflow.lag),
            _known(inflow.lag_most),
            _age(inflow.age),
            "" if inflow.vendor in {*seen, ALL} else letters,
        )
        seen.add(inflow.vendor)


def _together(volumes: "Sequence[Volume]") -> "Volume":
    """Add up the canonical topics."""
    from fhirline.streams.operate.status.summary import Volume

    rates = [volume.rate for volume in volumes if volume.rate is not None]
    name = f"fhir.r4.* ({counted(len(volumes), 'topic')})"
    return Volume(name, sum(volume.records or 0 for volume in volumes), sum(rates) if rates else None)


def _known(value: float | None) -> Cell:
    return UNKNOWN if value is None else value


def _age(seconds: float | None) -> str:
    """Write an age in the largest unit that fits. A timestamp in the future, from a wrong clock, is "ahead"."""
    if seconds is None:
        return "never"
    if seconds < -1:
        return f"{-seconds:.0f} s ahead"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
