"""The demo as a newcomer runs it: a process that stops all it started, and names what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fhirline.config.vendors import load_vendors
from tests.support.waiting import LIMIT

FHIRLINE = [sys.executable, "-c", "from fhirline.streams.cli import main; main()"]


def demo(marker: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the demo with a variable that marks all its processes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    return subprocess.run(
        [*FHIRLINE, "demo"],
        env={**own, **environment, "FHIRLINE_TEST_MARKER": marker},
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
def test_every_webhook_arrives_and_every_process_ends() -> None:
    ran = demo("arrives")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "resources from 10 webhooks, all validated" in ran.stdout
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


@pytest.mark.long
def test_missing_resources_are_named_and_fail_the_demo(tmp_path: Path) -> None:
    """A gateway that does not know the tenant: exit 1, the reason, and nothing left running."""
    vendors = load_vendors().model_dump(mode="json")
    vendors["vendors"]["altibbi"]["tenants"] = {"elsewhere": None}
    (tmp_path / "vendors.yaml").write_text(yaml.safe_dump(vendors), "utf-8")
    ran = demo("missing", FHIRLINE_VENDORS_FILE=str(tmp_path / "vendors.yaml"))
    assert ran.returncode == 1
    assert "altibbi status_update: the gateway answered 404" in ran.stderr
    assert left_over("missing") == []


def test_a_wrong_setting_is_one_line() -> None:
    ran = demo("wrong", FHIRLINE_PARTITIONS="many")
    assert ran.returncode == 2
    assert ran.stderr.startswith("fhirline: FHIRLINE_PARTITIONS: ")
    assert ran.stderr.count("\n") == 1
