"""The README: what it shows is what fhirline does, and what it lets a reader type runs."""

import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from fhirline.config.settings import PREFIX
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.demo.embedded_broker import free_port
from tests.support.cases import cases
from tests.support.console import blocks, commands
from tests.support.paths import ROOT, SAMPLES
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

README = (ROOT / "README.md").read_text("utf-8")
LINES_AT_MOST = 150
WITH_EVERY_EVENT = {"Provenance", "Organization", "Device"}


def test_it_is_short() -> None:
    """With one row per event of four vendors. A vendor more may add its rows, and no other line."""
    rows = re.findall(r"^\| \w+ \| `.+` \| .+ \|$", README, re.M)
    of_the_four = [row for row in rows if re.match(r"\| (altibbi|azodha|infermedica|mediquo) ", row)]
    assert len(README.splitlines()) - len(rows) + len(of_the_four) <= LINES_AT_MOST


# What it shows


def test_the_encounter_is_what_the_webhook_becomes() -> None:
    webhook, encounter = (orjson.loads(block) for block in blocks(README, "json"))
    assert webhook == orjson.loads((SAMPLES / "altibbi-status.json").read_bytes())
    mapped = subprocess.run(
        [fhirline(), "map", "altibbi", SAMPLES / "altibbi-status.json"],
        env=environment(""),
        capture_output=True,
        timeout=LIMIT,
        check=True,
    )
    resources = [entry["resource"] for entry in orjson.loads(mapped.stdout)["entry"]]
    assert len(resources) == 6
    [made] = [resource for resource in resources if resource["resourceType"] == "Encounter"]
    assert encounter == {name: value for name, value in made.items() if name not in ("meta", "extension")}


def test_the_table_of_events_is_what_the_golden_cases_become() -> None:
    made: dict[tuple[str, str], set[str]] = defaultdict(set)
    for case in cases():
        for result in case.run():
            made[case.vendor, result.event_type] |= {output.key.partition("/")[0] for output in result.outputs}
    mapped = {(vendor, event) for vendor in VENDORS for event in vendor_mapping(vendor).events}
    expected = {
        event: types - WITH_EVERY_EVENT for event, types in made.items() if event in mapped and types - WITH_EVERY_EVENT
    }
    shown = {
        (vendor, event): set(types.split(", "))
        for vendor, events, types in re.findall(r"^\| (\w+) \| (`.+`) \| ([\w, ]+) \|$", README, re.M)
        for event in re.findall(r"`([^`]+)`", events)
    }
    assert shown == expected
    [without] = re.findall(r"^Events without a mapping \((.+)\)", README, re.M)
    events = {vendor: vendor_mapping(vendor) for vendor in VENDORS}
    known = {(vendor, name) for vendor, found in events.items() for name in (*found.events, *found.unmapped)}
    assert set(re.findall(r"`([^`]+)`", without)) == {event for _, event in known - shown.keys()}


# What it lets a reader type


@pytest.mark.long
def test_its_console_blocks_run() -> None:
    """The demo, then `fhirline dev` with what a second terminal does meanwhile; ports are free ones of this machine."""
    demo, dev, terminal = blocks(README, "console")
    [(command, _)] = commands(demo)
    printed = finished(command.replace("make demo", f"make demo VENV={sys.prefix} -o {sys.prefix}/demo.installed"))
    [sample] = blocks(README, "text")
    *table, total = sample.splitlines()
    assert total in printed.splitlines()
    assert {word for line in table for word in re.findall(r"[A-Za-z][\w-]+", line)} - set(
        re.findall(r"[\w-]+", printed)
    ) == set()
    [(command, _)] = commands(dev)
    gateway, kafka = free_port(), free_port()
    with subprocess.Popen(
        ["bash", "-c", f"exec env {here(command, gateway, kafka)}"],
        cwd=ROOT,
        env=environment_without_settings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as stack:
        try:
            assert stack.stdout is not None
            assert any("Running." in line for line in stack.stdout), "fhirline dev ended before it ran"
            for command, shown in commands(terminal):
                printed = finished(here(command, gateway, kafka))
                for line, expected in zip(printed.splitlines(), shown, strict=True):
                    assert line.startswith(expected.removesuffix("…")) if "…" in expected else line == expected
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(LIMIT)
    assert stack.returncode == 0


def here(command: str, gateway: int, kafka: int) -> str:
    """The command with this environment's programs and with free ports."""
    programs = f"{Path(sys.executable).parent}/"
    return command.replace(".venv/bin/", programs).replace("8080", str(gateway)).replace("9092", str(kafka))


def finished(command: str) -> str:
    """Run a command, which must succeed, and return what it prints."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment_without_settings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def environment_without_settings() -> dict[str, str]:
    return {name: value for name, value in environment("").items() if not name.startswith(PREFIX)}


def fhirline() -> Path:
    return Path(sys.executable).with_name("fhirline")
