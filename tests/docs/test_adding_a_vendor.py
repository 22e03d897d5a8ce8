"""docs/adding-a-vendor.md, carried out: its files written and its commands run, in a copy of the repository.

What it shows of their output must be what they print; ``--approve`` writes that into the document.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fhirline.config.settings import PREFIX
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT

DOCUMENT = ROOT / "docs" / "adding-a-vendor.md"
FOLDERS = ("src", "config", "topics", "mappers", "streams", "tests", "docs")
_BLOCK = re.compile(r"(?:^`(?P<path>[\w./-]+)`\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``path`` names the file that it is, or changes; without one it is a console's."""

    path: str | None
    kind: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(document):
        yield Block(found["path"], found["kind"], found["text"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository with no golden case but those that the document adds."""
    for name in FOLDERS:
        without = shutil.ignore_patterns("__pycache__", "golden", "crash", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=without, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def write(tree: Path, path: str, text: str) -> None:
    """A new file, what is added to a YAML file, or a line that takes the place of the one that begins like it."""
    file = tree / path
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    elif file.suffix == ".yaml":
        file.write_text(file.read_text("utf-8") + text, "utf-8")
    else:
        name = re.escape(text.partition("=")[0])
        changed, count = re.subn(rf"^{name}=.*\n", text, file.read_text("utf-8"), flags=re.M)
        assert count == 1, f"{path}: {count} lines begin with {name}="
        file.write_text(changed, "utf-8")


def run(tree: Path, command: str) -> str:
    """What a command prints; it must succeed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTEST_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tree,
        env={**kept, "PATH": path, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def carried_out(tree: Path, block: Block) -> str:
    """The block as it should stand in the document."""
    if block.path is not None:
        write(tree, block.path, block.text)
        return block.text
    shown = []
    for command in re.findall(r"^\$ (.+)$", block.text, re.M):
        printed = run(tree, command)
        shown.append(f"$ {command}\n" + ("" if command.startswith("pytest") else printed))
    return "".join(shown)


@pytest.mark.long
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
    assert run(tree, "python -c 'import fhirline; print(fhirline.__file__)'").startswith(str(tree)), "the copy was run"
    assert "raw.exampledoc" in (tree / "docs" / "asyncapi.yaml").read_text("utf-8")
