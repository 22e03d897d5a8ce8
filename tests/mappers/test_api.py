"""The Python API: it maps as ``fhirline map`` does, it is what docs/python-api.md documents, and it needs no Kafka."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import fhirline
from fhirline.config.settings import PREFIX
from fhirline.config.vendors import Vendors
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli import map as map_command
from tests.support.cases import Case, cases, one_in, with_settings
from tests.support.paths import DOCS

FIRST = [replace(case, events=case.events[:1]) for case in cases()]
"""The first event of each golden case."""
STATUS = {"type": "status_update", "consultation_id": 72, "user_id": 1, "new_status": "closed"}
PAGE = DOCS / "python-api.md"


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def vendors_file(case: Case, path: Path) -> Path:
    """A vendors file with the case's tenant settings."""
    vendors: Vendors = with_settings(case.vendor, case.settings or {})
    path.write_text(yaml.safe_dump(vendors.model_dump(mode="json")), "utf-8")
    return path


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("case", one_in(4, FIRST), ids=lambda case: f"{case.vendor}/{case.name}")
def test_it_returns_what_the_command_prints(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, body = vendors_file(case, tmp_path / "vendors.yaml"), json.dumps(case.events[0]).encode()
    monkeypatch.setenv("FHIRLINE_VENDORS_FILE", str(file))
    (tmp_path / "body.json").write_bytes(body)
    app, runner = typer.Typer(), CliRunner()
    map_command.register(app)
    app.callback()(lambda: None)  # one command alone would have no name
    arguments = ["map", case.vendor, "body.json", "--tenant", "acme", "--received-at", case.received_at, "--outcome"]
    printed = runner.invoke(app, [*arguments, *(["--event", case.route_event] if case.route_event else [])])

    event = fhirline.normalize(
        body,
        vendor=case.vendor,
        tenant="acme",
        event_type=case.route_event,
        received_at=case.received_at,
        options=fhirline.Options(vendors_file=file),
    )
    assert printed.stdout_bytes == (event.bundle_json + b"\n" if event.bundle_json else b"")
    outcome = event.outcome_json.decode() + "\n" if event.outcome_json else ""
    assert printed.stderr.startswith(outcome)
    assert (printed.exit_code == 0) == event.complete
    approved, *_ = json.loads(case.approved.read_text("utf-8"))
    assert event.resources == approved["resources"]
    assert event.outcome == approved["outcome"]
    assert [f"{refusal.code} {refusal.resource_type}" for refusal in event.refusals] == approved["refusals"]
    assert ([entry["resource"] for entry in event.bundle["entry"]] if event.bundle else []) == event.resources


def test_there_are_cases_of_all_vendors_and_of_refusals() -> None:
    assert {case.vendor for case in FIRST} == {*VENDORS}
    assert any(json.loads(case.approved.read_text("utf-8"))[0]["refusals"] for case in FIRST)
    assert any(case.settings for case in FIRST)


def test_events_with_one_state_are_folded_in_any_order() -> None:
    bodies = [{**STATUS, "new_status": status, "datetime": f"2023-06-15T09:{minute}:00Z"} for status, minute in
              (("new", 31), ("in_progress", 38), ("closed", 52))]  # fmt: skip

    def encounter(bodies: list[dict[str, Any]]) -> dict[str, Any]:
        state = fhirline.InMemoryState()
        events = [fhirline.normalize(body, vendor="altibbi", state=state) for body in bodies]
        return next(found for found in events[-1].resources if found["resourceType"] == "Encounter")

    assert encounter(bodies) == encounter(bodies[::-1])
    assert [earlier["status"] for earlier in encounter(bodies)["statusHistory"]] == ["planned", "in-progress"]
    assert "statusHistory" not in encounter(bodies[-1:])


def test_a_result_may_be_changed_without_changing_the_next_one() -> None:
    """The Organization is made once in a process, so that a caller must get a copy of it."""
    first = fhirline.normalize(STATUS, vendor="altibbi")
    first.resources[0]["name"] = "changed"
    assert fhirline.normalize(STATUS, vendor="altibbi").resources[0]["name"] == "Altibbi"


def test_text_bytes_and_object_are_the_same_body() -> None:
    text = json.dumps(STATUS)
    events = [fhirline.normalize(body, vendor="altibbi") for body in (text, text.encode(), STATUS)]
    assert events[0] == events[1] == events[2]


def test_the_time_of_receipt_is_text_or_an_aware_datetime() -> None:
    moment = datetime(2024, 5, 2, 10, 31, 7, tzinfo=UTC)
    given = fhirline.normalize(STATUS, vendor="altibbi", received_at=moment)
    assert given == fhirline.normalize(STATUS, vendor="altibbi", received_at="2024-05-02T10:31:07.000Z")
    assert given.occurred_at == "2024-05-02T10:31:07.000Z", "the event has no time of its own"
    assert fhirline.normalize(STATUS, vendor="altibbi").occurred_at == "1970-01-01T00:00:00Z"
    sent = {**STATUS, "datetime": "2023-06-15T09:38:50.848860Z"}
    assert fhirline.normalize(sent, vendor="altibbi").occurred_at == "2023-06-15T09:38:50.848860Z"


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FHIRLINE_BASE", "https://elsewhere.example")
    monkeypatch.setenv("FHIRLINE_PARTITIONS", "none")
    event = fhirline.normalize(STATUS, vendor="altibbi")
    assert "https://fhirline.example.org/sid/altibbi/default/user" in event.bundle_json.decode()  # type: ignore[union-attr]  # None fails the test too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vendor": "altibi"}, rf"^vendor: unknown vendor 'altibi'; use one of {', '.join(VENDORS)}$"),
        ({"tenant": "x"}, r"^tenant: altibbi has no tenant 'x'; use one of acme, default, or add it"),
        ({"received_at": "2024-05-02"}, r"^received_at: '2024-05-02' is not an instant with a time zone"),
        ({"received_at": datetime(2024, 5, 2)}, r"^received_at: '2024-05-02 00:00:00' is not an instant"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fhirline.ConfigurationError, match=message):
        fhirline.normalize(STATUS, **{"vendor": "altibbi", **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "fhir.example"}, r"^base: 'fhir.example' must be an absolute http"),
        ({"server_base": ""}, r"^server_base: '' must be an absolute http"),
        ({"validation": "none"}, r"^validation: unknown mode 'none'; use one of spec, fhir.resources, both, off$"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fhirline.ConfigurationError, match=message):
        fhirline.Options(**options)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "not-json"),
        (b"\xff", "not-json"),
        ({"at": object()}, "not-json"),
        ("[]", "not-an-object"),
        ('{"a":' * 300 + "1" + "}" * 300, "too-deep"),
    ],
)
def test_an_unreadable_body_has_the_code_of_its_dead_letter(body: Any, code: str) -> None:
    with pytest.raises(fhirline.UnreadableBody) as caught:
        fhirline.normalize(body, vendor="altibbi")
    assert caught.value.code == code
    assert isinstance(caught.value, fhirline.FhirlineError)


# What is exported


def test_the_names_are_those_of_the_documentation() -> None:
    table = PAGE.read_text("utf-8").partition("## Names")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(fhirline.__all__)
    assert all(getattr(fhirline, name) is not None for name in fhirline.__all__)
    assert set(fhirline.__all__) <= set(dir(fhirline))
    assert fhirline.MAPPING_VERSION == MAPPING_VERSION
    with pytest.raises(AttributeError, match="no attribute 'normalise'"):
        fhirline.normalise  # noqa: B018  # the access itself is tested


def test_the_documented_examples_print_what_is_shown() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == PAGE.read_text("utf-8").count("```python") >= 4
    names: dict[str, Any] = {}
    for code, expected in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue() == expected


def test_no_kafka_client_is_imported_and_nothing_before_use() -> None:
    program = """
import sys
before = set(sys.modules)
import fhirline
assert {name for name in sys.modules if name.startswith("fhirline")} == {"fhirline"}
assert not {"pydantic", "orjson", "fhir"} & (set(sys.modules) - before)
assert fhirline.normalize({"type": "status_update"}, vendor="altibbi").refusals
[getattr(fhirline, name) for name in fhirline.__all__]
print(*sorted({name.partition(".")[0] for name in sys.modules} | {n for n in sys.modules if n.startswith("fhirline")}))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    loaded = run.stdout.split()
    assert {"fhirline.mappers.api", "orjson"} <= set(loaded)
    kafka = {"kafka", "confluent_kafka", "aiokafka", "faust", "mode", "aiohttp", "typer", "prometheus_client", "uvloop"}
    assert kafka.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("fhirline.streams")] == []
