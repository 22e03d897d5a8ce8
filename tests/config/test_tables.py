"""Packaged tables, which are read by another parser than those of a deployment."""

from pathlib import Path

import pytest
import yaml

from fhirline.config import tables
from fhirline.config.errors import ConfigurationError
from fhirline.config.tables import Flags, read_table
from tests.support.paths import ROOT

CONFIG = ROOT / "config"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("version: x\nflags: [\n", "flags.yaml:3: not valid YAML: "),
        ("version: x\nflag: {}\n", "flags.yaml:1: flags: is missing"),
        ("version: 2024-02-30\n", "flags.yaml: a value cannot be read: "),
    ],
)
def test_a_mistake_in_a_packaged_table_names_file_and_line(
    content: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flags.yaml").write_text(content, "utf-8")
    monkeypatch.setattr(tables, "files", lambda package: tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        read_table("flags.yaml", Flags)
    assert str(raised.value).startswith(expected)


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIG)))
def test_both_parsers_read_the_same(path: Path) -> None:
    """PyYAML has libyaml's parser in its packages for the common platforms, and its own in Python everywhere."""
    text = path.read_text("utf-8")
    assert yaml.load(text, Loader=yaml.CSafeLoader) == yaml.safe_load(text)
