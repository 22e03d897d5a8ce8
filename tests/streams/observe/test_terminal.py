"""Commands and pages write what they count in the singular where it is one: "1 record", not "1 records"."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fhirline import streams
from fhirline.streams.console.rendering import _counted
from fhirline.streams.observe.terminal import counted

FOLDER = Path(streams.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))
TEMPLATES = sorted((FOLDER / "console" / "templates").glob("*.html"))
NEVER_ONE = re.compile(
    r"(?:\b|_)(?:LEAST|MOST|SHORTEST|LONGEST|DEEPEST|MAX|limit|max_bytes|message_max_bytes|_BITS|LARGEST)"
    r"|brokers$|^rate$|^most$|^len\(found\)$|_[A-Z]+$"
)
"""Expressions of limits, and of a number that was compared with 1 before."""
COMPARED = frozenset({"authoring/guesses.py", "tables/views/selection.py", "console/views/export.py"})
"""Files that count only what they have compared with 1."""


def calls() -> Iterator[ast.Call]:
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "counted":
                yield node


@cache
def plurals() -> frozenset[str]:
    """Return the last words of what is counted anywhere, in the plural."""
    found = set()
    for call in calls():
        words = [item.value for item in call.args[1:] if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if words:
            found.add((words[1] if len(words) > 1 else f"{words[0]}s").split()[-1])
    return frozenset(found)


def uncounted(text: str) -> Iterator[str]:
    """Yield the numbers of a program's f-strings that stand before such a word without `counted`."""
    words = plurals()
    for node in ast.walk(ast.parse(text)):
        for value, behind in zip(node.values, node.values[1:], strict=False) if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.FormattedValue) and isinstance(behind, ast.Constant):
                word = re.match(r" (?:(?:more|further|other) )?([a-z]+)\b", str(behind.value))
                shown = ast.unparse(value.value)
                if word and word[1] in words and not shown.startswith("counted(") and not NEVER_ONE.search(shown):
                    yield f"{shown} {word[1]}"


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1_200, "1,200 entries")]
)
def test_one_is_in_the_singular(number: int, shown: str) -> None:
    assert counted(number, "entry", "entries") == _counted(number, "entry", "entries") == shown


def test_a_number_that_is_not_known_is_a_dash() -> None:
    assert _counted(None, "record") == "– records"


def test_the_search_finds_a_number_before_a_plural() -> None:
    assert list(uncounted('f"{number} records, {counted(n, 1)}, {MOST} events, {n:,} more events"')) == [
        "number records",
        "n events",
    ]


def test_each_message_counts_with_the_helper() -> None:
    assert {"records", "partitions", "events", "entries", "patients"} <= plurals()
    found = {
        f"{source.relative_to(FOLDER)}: {what}"
        for source in SOURCES
        if str(source.relative_to(FOLDER)) not in COMPARED
        for what in uncounted(source.read_text())
    }
    assert not found


def test_each_page_counts_with_the_helper() -> None:
    words = "|".join(sorted(plurals()))
    left = re.compile(rf"\{{\{{ ([^{{}}]*) \| number \}}\}} (?:more )?(?:{words})\b")
    limits_and_adjectives = {"most_revealed", "all", "kept.report.total(kinds.BY_VERSION)"}
    assert {"number" in template.read_text() for template in TEMPLATES} == {True, False}
    found = {number for template in TEMPLATES for number in left.findall(template.read_text())}
    assert found <= limits_and_adjectives
