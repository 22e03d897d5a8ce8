"""The reference chapters (settings, commands, contracts): they name all there is, as it is."""

import re
from pathlib import Path

import pytest

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.cli import COMMANDS, settings
from tests.docs.test_docs import source
from tests.support.paths import DOCS

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def settings_table() -> str:
    """Every setting with its default and meaning, in Markdown."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {'–' if field.default is None else f'`{field.default}`'} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def test_the_chapter_on_settings_names_each_with_its_default(approve: bool) -> None:
    page = DOCS / "settings.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    if approve:
        page.write_text(f"{before}{BEGIN}{settings_table()}{END}{after}", "utf-8")
    else:
        assert table == settings_table(), "pytest tests/docs/test_reference.py --approve writes the table anew"


def test_settings_are_lines_with_tabs_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    settings.settings()
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [name for name, _, _ in rows] == [PREFIX + name.upper() for name in Settings.model_fields]


def test_the_chapter_on_commands_names_each() -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"`fhirline {name}" not in page] == []


def test_every_error_code_of_the_contracts_is_in_the_code() -> None:
    page = (DOCS / "contracts.md").read_text("utf-8")
    codes = re.findall(r"`([a-z-]+)`", page.partition("Error codes of dead letters:")[2].partition("\n\n")[0])
    code = source("streams", "mappers")
    assert len(codes) >= 10
    assert [item for item in codes if f'"{item}"' not in code] == []
