"""Every help begins with one sentence, wraps its paragraphs, and shows examples that can be typed."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import pytest
from typer.testing import CliRunner

from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION
from tests.docs.test_docs import parse
from tests.streams.cli.commands import application, commands
from tests.support import cli
from tests.support.console import blocks
from tests.support.console import commands as typed
from tests.support.receiving import environment

COLUMNS = 100

each_command = pytest.mark.parametrize(
    ("words", "command"), commands(), ids=lambda value: value if isinstance(value, str) else ""
)


def shown(words: str) -> list[str]:
    """Return the lines of ``fhirline WORDS --help`` on a terminal of 100 columns."""
    environment = {"COLUMNS": str(COLUMNS), "TERMINAL_WIDTH": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(application(), [*words.split(), "--help"], env=environment)
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.splitlines()]


@each_command
def test_it_begins_with_one_sentence(words: str, command: Any) -> None:
    first = command.help.partition("\n\n")[0].replace("\n", " ")
    assert re.fullmatch(r"[A-Z]\w+ .*\.", first), first
    assert len(re.findall(r"\. [A-Z]", first)) <= 1, "two sentences at most"
    assert len(first) < 150


@each_command
def test_every_option_is_explained_by_a_sentence(words: str, command: Any) -> None:
    for parameter in command.params:
        assert re.fullmatch(r"(?s)\S.*\.", parameter.help or ""), f"{words} {parameter.name}: {parameter.help}"


@each_command
def test_its_paragraphs_are_wrapped(words: str, command: Any) -> None:
    """Typer keeps the line breaks of the source in other forms than Markdown."""
    lines = shown(words)
    assert max(map(len, lines)) <= COLUMNS
    prose = lines[: next(number for number, line in enumerate(lines) if line.startswith("╭"))]
    for line, following in pairwise(prose):
        if re.match(r" \w|   +\w", line) and re.match(r" +\w", following):
            assert len(line) + 1 + len(following.split()[0]) >= COLUMNS, f"{line}\n{following}"


@each_command
def test_its_examples_can_be_typed(words: str, command: Any) -> None:
    examples = [line for block in blocks(command.help, "console") for line, _ in typed(block)]
    for example in examples:
        program, *arguments = shlex.split(example.partition(" > ")[0])
        assert program == "fhirline"
        assert arguments[: len(words.split())] == words.split()
        parse(arguments)
    assert examples or "Example" not in command.help


def test_the_list_of_commands_fits_and_is_grouped() -> None:
    lines = shown("")
    assert [line.split("─")[1].strip() for line in lines if line.startswith("╭")][1:] == [
        "Try it",
        "Run",
        "Operate",
        "Vendors",
    ]
    assert max(map(len, lines)) <= COLUMNS


def test_the_list_of_commands_waits_for_nothing_that_the_commands_work_with() -> None:
    program = "import sys; from tests.streams.cli.commands import application; application(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    loaded = set(run.stdout.split())
    assert "fhirline.streams.cli.worker" in loaded
    clients = {"aiohttp", "confluent_kafka", "faust", "kafka", "duckdb", "prometheus_client", "structlog", "uvloop"}
    parts = {"streams.demo", "mappers.pipeline.normalize", "mappers.fhir.validation", "topics.cluster"}
    assert loaded & (clients | {f"fhirline.{name}" for name in parts}) == set()


def test_the_versions_are_printed() -> None:
    done = cli.run("--version", env=environment("-"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"fhirline {version('fhirline')}, mapping {MAPPING_VERSION}, code tables {MAP_SET_VERSION}\n"
