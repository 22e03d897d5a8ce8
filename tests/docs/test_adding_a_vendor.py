"""docs/adding-a-vendor.md, followed: its files are written and its commands run, in a copy of the repository.

What it shows of their output must be what they print; ``--approve`` writes that into the document.
"""

import doctest
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fhirline.mappers import answers, builder, context, duplicates, icd10, people, times
from fhirline.mappers.fhir import elements, narrative
from tests.support.checkout import copied, printed
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "adding-a-vendor.md"
LONGEST = 900.0
"""Seconds that one command may take on a busy machine."""

_BLOCK = re.compile(
    r"(?:^`(?P<path>[\w./-]+)`(?P<written>, as written)?\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``path``: the file that it is, or changes; None for a console's or an example's.

    ``written``: an earlier command has written it; it is shown, and not written again.
    """

    path: str | None
    written: bool
    kind: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(document):
        yield Block(found["path"], bool(found["written"]), found["kind"], found["text"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the repository."""
    copied(tmp_path, "crash")
    printed(tmp_path, "git init --quiet")  # the documents' tests list the repository's files
    return tmp_path


def write(file: Path, block: Block) -> None:
    """Write a file as a block shows it, or change it by the lines of a ``diff``."""
    if block.kind != "diff":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, "utf-8")
        return
    lines = block.text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    text = file.read_text("utf-8")
    assert text.count(before) == 1, f"{block.path} has not one place with\n{before}"
    file.write_text(text.replace(before, after), "utf-8")


def carried_out(tree: Path, block: Block) -> str:
    """Carry a block out; return its text with the output that was printed."""
    if block.kind == "pycon":
        example = doctest.DocTestParser().get_doctest(block.text, {}, DOCUMENT.name, None, 0)
        assert doctest.DocTestRunner().run(example).failed == 0
        return block.text
    if block.path is not None:
        if block.written:
            assert block.text in (tree / block.path).read_text("utf-8"), f"{block.path} was written otherwise"
        else:
            write(tree / block.path, block)
        return block.text
    shown = []
    for command in re.findall(r"^\$ (.+)$", block.text, re.M):
        output = printed(tree, command, LONGEST)
        shown.append(f"$ {command}\n" + ("" if command.startswith("pytest") else output))
    return "".join(shown)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_document_can_be_followed(tree: Path, approve: bool) -> None:
    document = DOCUMENT.read_text("utf-8")
    for block in [*blocks(document)]:
        made = carried_out(tree, block)
        if approve:
            document = document.replace(f"```{block.kind}\n{block.text}```", f"```{block.kind}\n{made}```")
        else:
            assert made == block.text
    if approve:
        DOCUMENT.write_text(document, "utf-8")
    assert printed(tree, "python -c 'import fhirline; print(fhirline.__file__)'").startswith(str(tree)), (
        "the copy was run"
    )
    assert "raw.exampledoc" in (tree / "docs" / "asyncapi.yaml").read_text("utf-8")
    contained = (tree / "tests" / "golden" / "exampledoc" / "visit_again.out.json").read_text("utf-8")
    assert {"unmapped-code", "code-invalid", "period-inverted", "value-unreadable"} <= {
        *re.findall(r'"code": "([\w-]+)"', contained)
    }


# The table of helpers


def helpers() -> set[str]:
    """Return the names in the first column of the table of helpers."""
    table = DOCUMENT.read_text("utf-8").partition("## Helpers")[2]
    cells = re.findall(r"^\| (.+?) \|", table, re.M)
    return {name.rpartition(".")[2] for cell in cells for name in re.findall(r"`(\w[\w.]*)", cell)}


def public(module: ModuleType) -> set[str]:
    """Return the names of a module's own public functions."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


def members(cls: type[Any]) -> set[str]:
    return {
        name
        for name in vars(cls)
        if name[0] != "_" and (callable(getattr(cls, name)) or isinstance(vars(cls)[name], property))
    }


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (members(context.Context), set()),
        (public(context), set()),
        (members(builder.MappingBuilder), {"absorb"}),
        (public(elements), set()),
        (public(people), {"person"}),
        (public(duplicates), set()),
        (public(answers), {"secret_leaf", "label"}),
        (public(narrative), {"div"}),
        (public(icd10), set()),
        (public(times), {"event_time", "sent_event_time", "unix_event_time", "date_time", "birth_date"}),
    ],
    ids=[
        "Context",
        "context",
        "MappingBuilder",
        "elements",
        "people",
        "duplicates",
        "answers",
        "narrative",
        "icd10",
        "times",
    ],
)
def test_the_table_has_every_helper_of_an_author(names: set[str], left_out: set[str]) -> None:
    """``left_out``: what only other helpers, or `mappers.routing`, call."""
    assert left_out <= names
    assert names - left_out - helpers() == set()
