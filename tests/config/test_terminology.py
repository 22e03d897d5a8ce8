"""A deployment's folder of code tables: what cannot be read, or was not reviewed, ends every command that reads it."""

import subprocess
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import load_vendors
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import SAMPLES
from tests.support.receiving import environment

NOWHERE = "127.0.0.1:9"
READERS = (
    ("map", "altibbi", str(SAMPLES / "altibbi-status.json")),
    ("terminology", "draft", "altibbi", str(SAMPLES / "altibbi-status.json")),
    ("worker",),
)


def fhirline(*arguments: str, folder: Path, bootstrap: str = NOWHERE) -> "subprocess.CompletedProcess[str]":
    return cli.run(*arguments, env=environment(bootstrap, FHIRLINE_TERMINOLOGY_DIR=str(folder)))


@pytest.mark.parametrize("arguments", READERS, ids=lambda arguments: arguments[0])
def test_a_missing_folder_ends_each_command_that_reads_it(
    arguments: tuple[str, ...], embedded: RunningBroker, tmp_path: Path
) -> None:
    ran = fhirline(*arguments, folder=tmp_path / "tables", bootstrap=embedded.bootstrap)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"fhirline: FHIRLINE_TERMINOLOGY_DIR: cannot read {tmp_path / 'tables'}: No such file or directory; "
        "correct the path, or unset it\n"
    )


def test_doctor_reports_a_missing_folder(tmp_path: Path) -> None:
    ran = fhirline("doctor", "--timeout", "0.1", folder=tmp_path / "tables")
    assert ran.returncode == 2
    assert f"problem tables          FHIRLINE_TERMINOLOGY_DIR: cannot read {tmp_path / 'tables'}" in ran.stdout


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("", "utf-8")
    with pytest.raises(ConfigurationError, match=r"FHIRLINE_TERMINOLOGY_DIR: cannot read .*: Not a directory"):
        load_terminology(tmp_path / "tables")


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("frequency", "means: TODO"),
        ("frequency", "codings: TODO"),
        ("frequency", "codings: [{system: http://example.org, code: TODO, evidence: me}]"),
        ("route", "means: {code: TODO}"),
        ("route", "evidence: TODO"),
    ],
)
def test_a_row_that_nobody_reviewed_is_refused(table: str, row: str, tmp_path: Path) -> None:
    (tmp_path / f"{table}.yaml").write_text(
        f"version: own-1\ntitle: Own\nrows:\n  - source: [todo]\n    {row}\n", "utf-8"
    )
    with pytest.raises(
        ConfigurationError, match=rf"{table}\.yaml:\d+: rows\.0.*this row is a draft: replace each TODO"
    ):
        load_terminology(tmp_path)


def test_the_word_todo_is_a_word_like_others(tmp_path: Path) -> None:
    (tmp_path / "route.yaml").write_text("version: own-1\ntitle: Own\nrows:\n  - source: [TODO]\n", "utf-8")
    assert load_terminology(tmp_path).row("route", "todo") is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: é".encode("latin-1"), "is not UTF-8 text"),
        (b"version: a\ntitle: x\nrows: " + b"[" * 1_000, "nested too deep"),
        (b"version: a\ntitle: x\nrows: [{source: [a], means: {dose_class: &a [*a]}}]", "contains itself"),
        (b"? [a]\n: 1\n", "form.yaml"),
        (b"", "form.yaml"),
        (b"- 1\n", "form.yaml"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        load_terminology(tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigurationError) as refused:
        load_vendors(tmp_path / "form.yaml")
    assert "\n" not in str(refused.value)
