"""Tables, numbers, questions and progress, with a terminal and without one."""

import doctest
import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli import options, output
from fhirline.streams.cli.output import confirm, counting, print_json, print_table, progress, table
from fhirline.streams.cli.replay import request
from fhirline.streams.operate.dead_letters import cases
from fhirline.streams.operate.replay import difference

STEERING = "a\x1b[31m\tb\n"


class Terminal(io.StringIO):
    """Standard input, output or error of a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    clock = [100.0]
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.mark.parametrize("module", [output, options, request, cases, difference], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings_hold(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


# Results


def test_without_a_terminal_a_table_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "count", "rate"), [("x", 184_220, 1_234.56), (STEERING, 0, 0.0)])
    assert capsys.readouterr().out.splitlines() == [
        "name\tcount\trate",
        "x\t184220\t1234.6",
        "a\\x1b[31m\\tb\\n\t0\t0.0",
    ]


def test_on_a_terminal_numbers_are_aligned_and_nothing_steers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    print_table(("name", "count"), [("x", 184_220), (STEERING, 7)])
    shown = terminal.getvalue()
    assert "│ 184,220 │" in shown
    assert "│       7 │" in shown
    assert "a\\x1b[31m\\tb\\n" in shown
    assert "\x1b[31m" not in shown
    assert [column.justify for column in table(("a", "b"), [("x", 1)]).columns] == ["left", "right"]


def test_json_is_printable_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": f"é{STEERING}\x7f"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": f"é{STEERING}\x7f"}
    assert all(" " <= item <= "~" for item in shown.replace("\n", ""))


# Questions


@pytest.mark.parametrize(("answer", "code"), [("y\n", None), ("n\n", 1), ("\n", 1)])
def test_a_question_is_asked_on_a_terminal(answer: str, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    if code is None:
        confirm("Do it?", False)
        return
    with pytest.raises(typer.Exit) as ended:
        confirm("Do it?", False)
    assert ended.value.exit_code == code


def test_without_a_terminal_a_question_needs_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    confirm("Do it?", True)
    with pytest.raises(ConfigurationError, match="--yes"):
        confirm("Do it?", False)
    confirm("Do it?", False, piped=True)


# Progress


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], now: list[float]
) -> None:
    with progress() as reporter:
        count = counting(reporter)
        count("raw.mediquo", 1_000)
        now[0] += 6
        count("raw.mediquo", 1_500)
        count("raw.altibbi", 1)
        reporter.begin("publishing")
        now[0] += 6
        reporter.show("publishing", 3, 12, "fast")
        reporter.end("publishing")
        reporter.end("raw.mediquo/3", announce=True)
        reporter.message("events.ndjson:7: bad")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "reading: 2,500 (raw.mediquo)",
        "publishing",
        "publishing: 3 of 12 (fast)",
        "raw.mediquo/3 done",
        "events.ndjson:7: bad",
    ]


def test_on_a_terminal_progress_is_a_bar_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as reporter:
        reporter.show("sending", 3, 12, "events", "")
        reporter.message("a line above")
        reporter.show("ingesting", 1_500_000, 3_000_000, "", "bytes")
    shown = terminal.getvalue()
    for part in ("sending", "3 of 12", "events", "a line above", "1.5 MB of 3.0 MB"):
        assert part in shown
    assert capsys.readouterr().out == ""


def test_quick_work_of_unknown_length_shows_no_bar(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as reporter:
        counting(reporter)("raw.mediquo", 1_000)
    assert "reading" not in terminal.getvalue()


def test_a_bar_does_not_come_back_once_progress_has_ended(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """Nothing would stop it: it would be drawn between later lines, and leave the terminal without its cursor."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as reporter:
        read = counting(reporter)
    before = terminal.getvalue()
    now[0] += 10
    read("raw.mediquo", 5)
    reporter.begin("later")
    assert terminal.getvalue() == before
