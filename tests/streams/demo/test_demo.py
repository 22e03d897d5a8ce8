"""The demo as a newcomer runs it: a process that stops all it started, and names what is missing."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from fhirline.config.own_command import own_command
from fhirline.config.vendors import load_vendors
from fhirline.streams.demo.tables import questions, replace_file
from fhirline.streams.demo.webhooks import samples
from tests.support.expected_tables import duck_rows
from tests.support.waiting import LIMIT


def demo(marker: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the demo in ``folder``, with a variable that marks all its processes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    return subprocess.run(
        own_command("demo"),
        env={**own, **environment, "FHIRLINE_TEST_MARKER": marker},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def left_over(marker: str) -> list[str]:
    """Return the running processes with the marker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"FHIRLINE_TEST_MARKER={marker}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile, or of another user
            continue
    return found


@pytest.mark.long
def test_every_webhook_arrives_and_every_process_ends(tmp_path: Path) -> None:
    """The tables too: they replace an older file and its journal, whatever the settings of one's own tables are."""
    file, journal = tmp_path / "fhirline-demo.duckdb", tmp_path / "fhirline-demo.duckdb.wal"
    file.write_bytes(b"an older one")
    journal.write_bytes(b"its journal")
    (tmp_path / ".env").write_text("FHIRLINE_TABLES_SCHEMA=mine\nFHIRLINE_TABLES_WITHOUT_IDENTITIES=true\n", "utf-8")
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "broken.json").write_text("{}", "utf-8")
    ran = demo("arrives", tmp_path, FHIRLINE_TABLES_VIEWS=str(tmp_path / "views"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"resources from {len(samples())} webhooks, all validated" in ran.stdout
    assert "patient_consultation_finished" in ran.stdout
    assert "4711" not in ran.stdout + ran.stderr, "the dispense code of the sample"
    drug, request = (
        json.JSONDecoder().raw_decode(after.partition("\n\n")[2])[0]
        for after in (ran.stdout.partition("In: ")[2], ran.stdout.partition("Out: ")[2])
    )
    assert drug["name"] == "PARACETAMOL"
    assert request["medicationReference"]["display"] == f"PARACETAMOL ({drug['tradeName']})"
    assert request["dosageInstruction"][0]["timing"]["repeat"] == {"frequency": 3, "period": 1, "periodUnit": "d"}
    assert left_over("arrives") == []
    assert sorted(item.name for item in tmp_path.iterdir()) == [".env", "fhirline-data", file.name, "views"]
    assert f"The tables stay in {file}" in ran.stdout
    [(counted,)] = duck_rows(file)("select count(*) from fhir.encounter")
    assert counted == 13
    assert all(question in ran.stdout for question, _ in questions())


@pytest.mark.long
def test_missing_resources_are_named_and_fail_the_demo(tmp_path: Path) -> None:
    """A gateway that does not know the tenant: exit 1, the reason, and nothing left running."""
    vendors = load_vendors().model_dump(mode="json")
    vendors["vendors"]["altibbi"]["tenants"] = {"elsewhere": None}
    (tmp_path / "vendors.yaml").write_text(yaml.safe_dump(vendors), "utf-8")
    ran = demo("missing", tmp_path, FHIRLINE_VENDORS_FILE=str(tmp_path / "vendors.yaml"))
    assert ran.returncode == 1
    assert "altibbi status_update: the gateway answered 404" in ran.stderr
    assert left_over("missing") == []
    assert not (tmp_path / "fhirline-demo.duckdb").exists()


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    ran = demo("wrong", tmp_path, FHIRLINE_PARTITIONS="many")
    assert ran.returncode == 2
    assert ran.stderr.startswith("fhirline: FHIRLINE_PARTITIONS: ")
    assert ran.stderr.count("\n") == 1


def test_a_file_that_cannot_be_left_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "fhirline-demo.duckdb"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(Path(__file__), target)
    assert [*tmp_path.iterdir()] == [target]
