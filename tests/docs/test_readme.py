"""The README names what exists: settings, commands, topics, error codes. What it shows can be typed."""

import re
from pathlib import Path

import pytest

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.cli import COMMANDS, settings
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
SECRETS = {"FHIRLINE_MEDIQUO_SECRET", "FHIRLINE_INFERMEDICA_TOKEN", "FHIRLINE_ALTIBBI_SECRET", "FHIRLINE_AZODHA_SECRET"}


def test_every_setting_it_names_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | SECRETS
    named = set(re.findall(r"FHIRLINE_[A-Z_]+[A-Z]", README))
    assert named - known == set()


def test_settings_are_lines_with_tabs_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    settings.settings()
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [name for name, _, _ in rows] == [PREFIX + name.upper() for name in Settings.model_fields]


def test_every_command_is_told_of() -> None:
    assert [name for name in COMMANDS if f"fhirline {name}" not in README] == []


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"make ([a-z-]+)`", README)) <= targets


def test_every_error_code_it_names_stands_in_the_code() -> None:
    codes = re.findall(r"`([a-z-]+)`", README.partition("Error codes of dead letters:")[2].partition("\n\n")[0])
    source = "".join(path.read_text("utf-8") for top in ("streams", "mappers") for path in (ROOT / top).rglob("*.py"))
    assert len(codes) >= 10
    assert [code for code in codes if f'"{code}"' not in source] == []
