"""The output of all commands: tables, JSON documents, progress and questions.

Results go to standard output; progress and questions go to standard error. On a terminal a result is a table and
progress is a bar. Elsewhere a result is tab-separated rows for other programs, and progress is a line now and then.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DECLINED
from fhirline.streams.observe.terminal import json_text, printable

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table

Cell = str | int | float
"""A number is right-aligned and has thousands separators on a terminal; elsewhere it is plain digits."""

Unit = Literal["", "bytes"]

PATIENCE = 2.0
"""Seconds of work that has not been announced until its bar appears."""

LINE_SECONDS = 5.0
"""Seconds between two lines of progress where there is no terminal."""


# -- results


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table on a terminal, else a line of column names and a line per row, tab-separated."""
    if not sys.stdout.isatty():
        print_rows(columns, rows)
        return
    from rich.console import Console

    Console().print(table(columns, rows))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print the column names and the rows, tab-separated."""
    for row in (columns, *rows):
        print("\t".join(text(cell, thousands=False) for cell in row))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], **style: Any) -> "Table":
    """Make a table for a terminal. ``style``: arguments of `rich.table.Table`."""
    from rich.table import Column, Table
    from rich.text import Text

    listed = [*rows]
    numeric = [any(not isinstance(row[number], str) for row in listed) for number in range(len(columns))]
    headings = (
        Column(name, justify="right" if right else "left") for name, right in zip(columns, numeric, strict=True)
    )
    made = Table(*headings, **style)
    for row in listed:
        made.add_row(*(Text(text(cell, thousands=True), overflow="fold") for cell in row))
    return made


def text(cell: Cell, *, thousands: bool) -> str:
    """Write a cell. Characters that would steer a terminal, or break a row, are written as escapes.

    >>> text(184220, thousands=True), text(184220, thousands=False), text(2.5, thousands=True)
    ('184,220', '184220', '2.5')
    """
    if isinstance(cell, str):
        return printable(cell)
    comma = "," if thousands else ""
    return f"{cell:{comma}}" if isinstance(cell, int) else f"{cell:{comma}.1f}"


def print_json(document: Any) -> None:
    """Print one JSON document in printable ASCII."""
    print(json_text(document))


# -- questions


def require_answer(yes: bool) -> None:
    """Raise ConfigurationError unless the question is answered by ``--yes`` or can be asked on a terminal."""
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("--yes: required without a terminal to ask on")


def confirm(question: str, yes: bool, *, piped: bool = False) -> None:
    """Ask on standard error, and end the command with `DECLINED` unless the answer is yes.

    ``piped``: take the answer from a pipe too. Raises ConfigurationError where nobody can be asked.
    """
    if not piped:
        require_answer(yes)
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(DECLINED)


# -- progress


class ProgressReporter(Protocol):
    """Reports how far a command has come, on standard error.

    Tasks have names, counts and notes. None of them may hold patient data: names are those of topics and phases.
    """

    def begin(self, task: str) -> None:
        """Announce a task at once."""

    def show(self, task: str, count: int, total: int | None = None, note: str = "", unit: Unit = "") -> None:
        """Set a task's count. Without a ``total``, a task that was not announced appears after `PATIENCE` seconds."""

    def end(self, task: str, *, announce: bool = False) -> None:
        """Remove a task. ``announce``: where there are no bars, print that it is done."""

    def message(self, line: str) -> None:
        """Print a line of its own at once."""


@contextmanager
def progress() -> Iterator[ProgressReporter]:
    """Report by bars on a terminal, which are removed at the end, and by lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.close()


def counting(reporter: ProgressReporter, task: str = "reading") -> Callable[[str, int], None]:
    """Make a callback for `streams.kafka.reader.Scanner` that reports how many records have been read."""
    read = 0

    def count(topic: str, records: int) -> None:
        nonlocal read
        read += records
        reporter.show(task, read, note=topic)

    return count


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._tasks: dict[str, TaskID] = {}
        self._begun = time.monotonic()
        self._closed = False

    def begin(self, task: str) -> None:
        self._add(task)
        self._start()

    def show(self, task: str, count: int, total: int | None = None, note: str = "", unit: Unit = "") -> None:
        if task not in self._tasks:
            self._add(task)
        self._progress.update(
            self._tasks[task], completed=count, total=total, count=_count(count, total, unit), note=note
        )
        if total is not None or time.monotonic() - self._begun > PATIENCE:
            self._start()

    def end(self, task: str, *, announce: bool = False) -> None:
        if (id := self._tasks.pop(task, None)) is not None:
            self._progress.remove_task(id)

    def message(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._closed = True
        self._progress.stop()

    def _start(self) -> None:
        if not self._closed:  # a second start would never be stopped, and the terminal would stay without its cursor
            self._progress.start()

    def _add(self, task: str) -> None:
        self._tasks[task] = self._progress.add_task(task, total=None, count="", note="")


class _Lines:
    def __init__(self) -> None:
        self._printed = time.monotonic()

    def begin(self, task: str) -> None:
        self.message(task)

    def show(self, task: str, count: int, total: int | None = None, note: str = "", unit: Unit = "") -> None:
        if time.monotonic() - self._printed > LINE_SECONDS:
            line = f"{task}: {_count(count, total, unit)}"
            self.message(f"{line} ({note})" if note else line)

    def end(self, task: str, *, announce: bool = False) -> None:
        if announce:
            self.message(f"{task} done")

    def message(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._printed = time.monotonic()


def _count(count: int, total: int | None, unit: Unit) -> str:
    """Write a count and, where it is known, its total."""
    from rich.filesize import decimal

    written, whole = (decimal(item) if unit == "bytes" else f"{item:,}" for item in (count, total or 0))
    return written if total is None else f"{written} of {whole}"
