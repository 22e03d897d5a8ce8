"""Exit codes have names in one file, and each help names the codes that its command has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhirline.config import exit_codes
from fhirline.config.errors import ConfigurationError, KafkaUnreachable
from fhirline.streams.cli.errors import CommandFailed, failing_with, run
from tests.streams.cli.commands import commands
from tests.support.paths import ROOT

CODES = {name: value for name, value in vars(exit_codes).items() if name.isupper()}
ENDS = {"Exit", "exit", "_exit", "SystemExit", "CommandFailed"}
"""Names of the calls that end a process with a number."""


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_no_other_module_spells_a_number() -> None:
    spelled = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for folder in ("config", "mappers", "topics", "streams", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for call in calls(path)
        if name_of(call) in ENDS
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]
    assert spelled == []


def test_each_code_has_a_meaning() -> None:
    body = ast.parse(Path(exit_codes.__file__).read_text("utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            assert isinstance(following, ast.Expr), ast.unparse(statement)
    assert {*CODES.values()} == {0, 1, 2, 70, 75, 130}


@pytest.mark.parametrize(
    ("words", "command"),
    [(words, command) for words, command in commands() if not words.startswith(("infermedica", "settings"))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_help_of_a_command_names_its_codes(words: str, command: Any) -> None:
    """By number, in rising order, each of them one that exists. The group ``infermedica`` names them for all."""
    named = [int(number) for number in re.findall(r"^\* (\d+): \w", command.help, re.MULTILINE)]
    assert named == sorted(named)
    assert len(named) >= 2
    assert {*named} <= {*CODES.values()}


def test_an_error_is_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(error: Exception) -> None:
        raise error

    for error, line, code in (
        (CommandFailed("trace", "no such event", exit_codes.NOT_FOUND), "fhirline trace: no such event\n", 1),
        (ConfigurationError("FHIRLINE_BASE: wrong"), "fhirline: FHIRLINE_BASE: wrong\n", 2),
        (KafkaUnreachable("FHIRLINE_BOOTSTRAP: nobody"), "fhirline: FHIRLINE_BOOTSTRAP: nobody\n", 2),
    ):
        with pytest.raises(SystemExit) as ended:
            run(lambda error=error: failing(error))  # type: ignore[misc]  # bound now
        assert (ended.value.code, capsys.readouterr().err) == (code, line)
    with pytest.raises(ZeroDivisionError):
        run(lambda: failing(ZeroDivisionError()))


def test_an_exception_is_translated_by_its_nearest_class() -> None:
    codes: dict[type[BaseException], int] = {OSError: 1, FileNotFoundError: 2, KeyboardInterrupt: 130}
    for error, text, code in (
        (FileNotFoundError("gone"), "gone; go on with: x", 2),
        (PermissionError("closed"), "closed; go on with: x", 1),
        (KeyboardInterrupt(), "interrupted; go on with: x", 130),
    ):
        with pytest.raises(CommandFailed) as failed, failing_with("replay", codes, "go on with: x"):
            raise error
        assert (failed.value.command, str(failed.value), failed.value.exit_code) == ("replay", text, code)
    with pytest.raises(ValueError, match="not listed"), failing_with("replay", codes):
        raise ValueError("not listed")


def test_ctrl_c_while_a_command_is_imported_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run(interrupted)
    assert (ended.value.code, capsys.readouterr().err) == (exit_codes.INTERRUPTED, "fhirline: interrupted\n")
