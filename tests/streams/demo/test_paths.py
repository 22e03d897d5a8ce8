"""The commands that demo and dev print can be pasted where they were started."""

import sys
from pathlib import Path

import pytest

from fhirline.streams.demo.paths import program, sample_path
from tests.support.paths import ROOT


def test_in_a_checkout_the_paths_are_those_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(ROOT / ".venv/bin/fhirline"), "dev"])
    assert program() == ".venv/bin/fhirline"
    assert sample_path("altibbi-status.json") == "streams/demo/samples/altibbi-status.json"


def test_elsewhere_the_paths_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = str(ROOT / ".venv/bin/fhirline")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [started, "dev"])
    assert program() == started
    assert Path(sample_path("altibbi-status.json")).read_bytes().startswith(b"{")
    assert Path(sample_path("altibbi-status.json")).is_absolute()


def test_a_program_that_the_shell_looked_up_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fhirline", "dev"])
    assert program() == "fhirline"
