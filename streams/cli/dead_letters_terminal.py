"""How ``fhirline dead-letters`` speaks to a terminal, and to other programs where there is none."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from fhirline.config.errors import ConfigurationError

if TYPE_CHECKING:
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.streams.operate.dead_letters.cases import Case

PATIENCE = 2.0
"""Seconds after which reading shows that it is at work."""


def read(board: "Board") -> "list[Case]":
    """Every case; on a terminal it is shown how many records have been read, where that takes its time."""
    from rich.console import Console

    console, began, count_read = Console(stderr=True), time.monotonic(), 0
    spinner = console.status("reading")

    def progress(_: str, count: int) -> None:
        nonlocal count_read
        count_read += count
        if console.is_terminal and time.monotonic() - began > PATIENCE:
            spinner.update(f"{count_read:,} records read")
            spinner.start()

    try:
        return board.read(progress)
    finally:
        spinner.stop()


def require_answer(yes: bool) -> None:
    """Raises ConfigurationError where nobody could be asked: better before anything is read than after."""
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("--yes is needed where no terminal is that could be asked (or --dry-run)")


def confirm(question: str, yes: bool) -> None:
    """Ends the command with exit code 1 where the answer is no."""
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)


@contextmanager
def bar(total: int) -> "Iterator[Callable[[], None]]":
    """A progress bar on a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one line a row, tab between the fields, for other programs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fhirline.streams.observe.terminal import printable

    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*(Text(printable(each), overflow="fold") for each in row))
        console.print(table)
        return
    print("\t".join(columns))
    for row in rows:
        print("\t".join(map(printable, row)))


def print_json(document: Any) -> None:
    from fhirline.streams.observe.terminal import json_text

    print(json_text(document))
