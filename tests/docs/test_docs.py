"""Every page that is read: what it names exists, where it links to is there, what it shows can be typed."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fhirline.config.settings import PREFIX, Settings
from fhirline.config.terminology import RowTable
from fhirline.config.vendors import load_vendors
from fhirline.streams.cli import COMMANDS
from fhirline.streams.enrich.stage import FAILED
from fhirline.streams.step2_consume.metrics import CODES
from tests.support.console import blocks, commands
from tests.support.paths import ROOT

SECRETS = {
    name
    for vendor in load_vendors().vendors.values()
    if vendor.defaults.credential
    for name in vendor.defaults.credential.secrets
}
CHANGELOG = ROOT / "CHANGELOG.md"
"""Its links are tested, not its names: it also describes what is gone."""
TOP_LEVEL = {*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")} - {CHANGELOG}
PAGES = [*sorted(TOP_LEVEL), *sorted((ROOT / "docs").rglob("*.md"))]
RULES = ROOT / "docker" / "grafana" / "prometheus" / "rules" / "fhirline.yml"
OPERATIONS = ROOT / "docs" / "operations.md"
OF_THE_EXAMPLE = {"FHIRLINE_EXAMPLEDOC_SECRET"}
"""Of the vendor that docs/adding-a-vendor.md adds."""

OF_COMPOSE = {"FHIRLINE_RESEARCH_PASSWORD"}
"""Only docker/compose.yaml reads it, which passes it on under the names that a process knows."""


def shown_as(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=shown_as)


def source(*tops: str) -> str:
    return "".join(path.read_text("utf-8") for top in tops for path in (ROOT / top).rglob("*.py"))


# What is named


@every_page
def test_every_setting_it_names_exists(page: Path) -> None:
    secrets = SECRETS | OF_THE_EXAMPLE | OF_COMPOSE
    known = (
        {PREFIX + name.upper() for name in Settings.model_fields} | secrets | {f"{secret}_FILE" for secret in secrets}
    )
    assert set(re.findall(r"FHIRLINE_[A-Z0-9_]+[A-Z0-9]", page.read_text("utf-8"))) - known == set()


@every_page
def test_every_make_target_it_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"(?:`|^\$ )make ([a-z-]+)", page.read_text("utf-8"), re.M)) <= targets


@every_page
def test_every_metric_it_names_exists(page: Path) -> None:
    known = set(re.findall(r'"(fhirline_[a-z_]+)"', source("streams")))
    named = set(re.findall(r"\bfhirline_[a-z_]+[a-z]", page.read_text("utf-8")))
    assert {re.sub("_(total|bucket|sum|count)$", "", item) for item in named} - known == set()


@every_page
def test_every_file_of_the_repository_it_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:config|docker|docs|mappers|streams|tests|topics)/[\w./-]+\w)`", page.read_text("utf-8"))
    assert [item for item in named if "exampledoc" not in item and not (ROOT / item).exists()] == []


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    others = {path.name for path in (ROOT / "docs").iterdir() if path.is_file()} - {"README.md"}
    assert set(re.findall(r"^\| \[.+?\]\((.+?)\)", index, re.M)) == others


def test_every_code_of_a_dead_letter_is_told_of() -> None:
    told = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", (ROOT / "docs" / "dead-letters.md").read_text("utf-8"), re.M)
    assert {code for cell in told for code in re.findall("[a-z-]+", cell)} >= {*CODES, FAILED}


def test_the_runbook_names_log_lines_and_refusals_that_there_are() -> None:
    text, code = OPERATIONS.read_text("utf-8"), source("streams")
    reasons = re.findall(r"^\| 70 \| `(.+?)`", text, re.M)
    refusals = [
        match for cell in re.findall(r"^\| [45]\d\d \| (.+?) \|", text, re.M) for match in re.findall(r"`(.+?)`", cell)
    ]
    assert len(reasons) >= 3
    assert len(refusals) >= 6
    assert [reason for reason in (*reasons, *refusals) if f'"{reason}"' not in code] == []


def test_the_runbook_has_every_reason_for_which_a_worker_ends_itself() -> None:
    reasons = set(re.findall(r'exit_uncommitted(?:_on)?\(\s*"(.+?)"', source("streams")))
    assert len(reasons) >= 8
    assert reasons <= set(re.findall(r"^\| 70 \| `(.+?)`", OPERATIONS.read_text("utf-8"), re.M))


def test_its_code_table_is_one() -> None:
    tables = re.findall(r"^```yaml\n(.*?)^```", OPERATIONS.read_text("utf-8"), re.M | re.S)
    assert [RowTable.model_validate(yaml.safe_load(table)).rows[0].source for table in tables] == [("Dermatología",)]


# Where it links to


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=shown_as)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))
    assert [link for link in links if "://" not in link and not leads_somewhere(page, link)] == []


def test_every_alert_has_a_section() -> None:
    runbooks = re.findall(r"runbook: (\S+)", RULES.read_text("utf-8"))
    assert len(runbooks) >= 10
    assert [runbook for runbook in runbooks if not leads_somewhere(ROOT / "x", runbook)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@cache
def anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them of headings: lower case, punctuation dropped, a space a hyphen, a number behind repeats."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text("utf-8")), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return frozenset(found)


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)


# What can be typed


@every_page
def test_every_command_it_shows_can_be_typed(page: Path) -> None:
    """Parsed by the command itself: it exists, and so do its options, with such values."""
    wrong = []
    for words in shown(page.read_text("utf-8")):
        try:
            parse(words)
        except UsageError as error:
            wrong.append(f"fhirline {shlex.join(words)}: {error.format_message()}")
    assert wrong == []


@every_page
def test_every_command_it_mentions_exists(page: Path) -> None:
    """In running text, where values are left out: the command, its subcommands (``a|b``) and its options."""
    assert [words for words in mentioned(page.read_text("utf-8")) if not exists(words)] == []


def shown(text: str) -> Iterator[list[str]]:
    """The words behind each ``fhirline`` of the console blocks, also where compose.yaml's ``tools`` stands for it."""
    for line in (command for block in blocks(text, "console") for command, _ in commands(block)):
        lexer = shlex.shlex(line.partition("<<")[0].replace("\\\n", " "), posix=True, punctuation_chars="|&><;")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if not word or word[0] not in "|&><;":
                if command or not re.match(r"\w+=", word):  # a variable for this command alone
                    command.append(word)
                continue
            if command and Path(command[0]).name == "fhirline":
                yield command[1:]
            elif command[:2] == ["docker", "compose"] and "tools" in command and "--entrypoint" not in command:
                yield command[command.index("tools") + 1 :]
            command = [] if word[0] != ">" else ["a file"]


def mentioned(text: str) -> Iterator[list[str]]:
    for code in re.findall(r"`fhirline ([^`]+)`", without_code(text)):
        yield code.replace(r"\|", "|").split()


def exists(words: list[str]) -> bool:
    command: Any = application()
    left = iter(words)
    for word in left:
        if word.startswith("-") and word != "-":
            named = [param for param in command.params if word in param.opts + param.secondary_opts]
            if not named:
                return word in ("--help", "-h")
            if not named[0].is_flag:
                next(left, None)  # its value, which may be left out
        elif subcommands := getattr(command, "commands", None):
            names = word.split("|")
            if not all(item in subcommands or item == "…" or item.isupper() for item in names):
                return False
            command = subcommands.get(names[0], command)
    return True


@cache
def application() -> Any:
    app = typer.Typer()
    for name in COMMANDS:
        import_module(f"fhirline.streams.cli.{name.replace('-', '_')}").register(app)
    return typer.main.get_command(app)


UsageError: Any = next(item for item in typer.BadParameter.__mro__ if item.__name__ == "UsageError")


def parse(words: list[str]) -> None:
    """As the command line does, without calling anything; raises UsageError."""
    command, name = application(), "fhirline"
    while subcommands := getattr(command, "commands", None):
        if command.invoke_without_command and (not words or words[0].startswith("-")):
            break
        if not words or words[0] not in subcommands:
            raise UsageError(f"{name}: no such command")
        name, *words = words
        command = subcommands[name]
    command.make_context(name, list(words))


def test_what_is_not_there_is_found() -> None:
    page = """
```console
$ fhirline status --onze | cat && fhirline nothing   # --x
$ fhirline topics plan > x
$ docker compose run --rm -T tools status --onze
```
`fhirline topics plan\\|x` and `fhirline topics plan\\|apply`
"""
    for words, right in zip(shown(page), (False, False, True, False), strict=True):
        if right:
            parse(words)
        else:
            with pytest.raises(UsageError):
                parse(words)
    assert [exists(words) for words in mentioned(page)] == [False, True]
    assert not leads_somewhere(OPERATIONS, "#nothing")
    assert not leads_somewhere(OPERATIONS, "nothing.md")
