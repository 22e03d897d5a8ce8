"""``fhirline terminology draft``: rows for what a vendor sent, which nobody can use before a review."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fhirline.config.errors import ConfigurationError
from fhirline.config.terminology import TODO, load_terminology
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import from_confluent
from fhirline.topics.declared import raw_topic
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics, settings_for
from tests.support.receiving import environment
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, undisturbed

NOWHERE = "127.0.0.1:9"
DAY = "2024-06-01T12:00:00Z"
RAW = raw_topic("altibbi")


def fhirline(*arguments: str | Path, bootstrap: str = NOWHERE, **more: str) -> "subprocess.CompletedProcess[str]":
    return cli.run(*arguments, env=environment(bootstrap, **more))


def draft(*arguments: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return fhirline("terminology", "draft", *arguments, **more)


def recommendation(consultation: int, *drugs: dict[str, Any]) -> dict[str, Any]:
    """A synthetic recommendation of drugs."""
    return {
        "type": "recommendation_data",
        "consultation_id": consultation,
        "user_id": consultation,
        "data": {"drug": {"fdaDrug": [{"name": f"DRUG {number}", **drug} for number, drug in enumerate(drugs)]}},
        "datetime": DAY,
    }


EVENTS = (
    recommendation(1, {"frequency": "At noon", "dosageUnit": "sachet"}, {"frequency": "Every full moon"}),
    recommendation(2, {"frequency": "every  full MOON"}, {"frequency": "every full moon", "dosageUnit": "capsule"}),
    recommendation(3, {"frequency": "Every full moon"}, {"frequency": "as Jane Doe said, phone 0612345678"}),
)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS), "utf-8")
    return path


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((folder / f"{table}.yaml").read_text("utf-8"))["rows"]
    return found


def test_a_draft_has_the_words_by_count_and_no_codes(events: Path, tmp_path: Path) -> None:
    made = draft("altibbi", "--ndjson", events, "--to", tmp_path / "drafts")
    assert (made.returncode, made.stdout) == (0, "")
    assert {path.name for path in (tmp_path / "drafts").iterdir()} == {"frequency.yaml", "dose-unit.yaml"}
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "drafts").iterdir()] == [0o600, 0o600]
    assert (tmp_path / "drafts").stat().st_mode & 0o777 == 0o700
    assert [row["source"] for row in rows(tmp_path / "drafts", "frequency")] == [["Every full moon"], ["At noon"]]
    [first, _] = rows(tmp_path / "drafts", "frequency")
    assert first["means"] == {"frequency": TODO, "period": TODO, "period_unit": TODO}
    assert [code["code"] for code in first["codings"]] == [TODO]
    text = (tmp_path / "drafts" / "frequency.yaml").read_text("utf-8")
    assert '["Every full moon"] # 4 times in 3 events\n' in text
    assert '["At noon"] # 1 time in 1 event\n' in text
    assert "Jane" not in text + made.stderr
    assert made.stderr.endswith("not shown, because they do not read like a term: frequency 1\n")


def test_a_draft_is_used_only_once_it_is_reviewed(events: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drafts"
    draft("altibbi", "--ndjson", events, "--to", folder)
    used = fhirline("map", "altibbi", "--ndjson", events, FHIRLINE_TERMINOLOGY_DIR=str(folder))
    assert (used.returncode, used.stdout) == (2, "")
    assert used.stderr.startswith(
        f"fhirline: {folder}/dose-unit.yaml:8: rows.0: this row is a draft: replace each TODO"
    )
    (folder / "dose-unit.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"frequency\.yaml:\d+: rows\.0: this row is a draft"):
        load_terminology(folder)
    path = folder / "frequency.yaml"
    reviewed = yaml.safe_load(path.read_text("utf-8"))
    reviewed["rows"] = [
        {"source": row["source"], "means": {"frequency": 1, "period": 1, "period_unit": "mo"}, "evidence": "reviewed"}
        for row in reviewed["rows"]
    ]
    path.write_text(yaml.safe_dump(reviewed), "utf-8")
    row = load_terminology(folder).row("frequency", "every full moon")
    assert row is not None
    assert row.means["period_unit"] == "mo"
    again = draft("altibbi", "--ndjson", events, FHIRLINE_TERMINOLOGY_DIR=str(folder))
    assert "moon" not in again.stdout
    assert "sachet" in again.stdout


def test_without_a_folder_the_tables_are_documents_on_standard_output(events: Path) -> None:
    made = draft("altibbi", "--ndjson", events)
    assert [document["title"].split(",")[0] for document in yaml.safe_load_all(made.stdout)] == [
        "dose-unit",
        "frequency",
    ]


def test_words_of_the_raw_topic(events: Path) -> None:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        taken = fhirline("ingest", "altibbi", events, bootstrap=broker.bootstrap)
        assert taken.returncode == 0, taken.stderr
        asked = ("altibbi", "--since", "2024-01-01T00:00:00Z")
        unexplained = draft(*asked, bootstrap=broker.bootstrap)
        assert (unexplained.returncode, unexplained.stdout) == (2, "")
        assert "--reason" in unexplained.stderr
        made = draft(*asked, "--reason", "ticket 12", "--as", "Kim", bootstrap=broker.bootstrap)
        assert made.returncode == 0, made.stderr
        assert '["Every full moon"] # 4 times in 3 events\n' in made.stdout
        audited = json.loads(made.stderr.splitlines()[0])
        assert (audited["logger"], audited["reason"], audited["as"]) == ("audit", "ticket 12", "Kim")
        later = draft("altibbi", "--since", "2999-01-01T00:00:00Z", "--reason", "x", bootstrap=broker.bootstrap)
        assert (later.returncode, later.stdout) == (0, "")
        assert later.stderr.endswith(
            "0 events of altibbi since 2999-01-01T00:00:00Z: 0 words without a row in 0 tables\n"
        )


@pytest.mark.long
def test_a_draft_of_the_raw_topic_is_reviewed_and_maps(own_broker: RunningBroker, events: Path, tmp_path: Path) -> None:
    """From a stored word to a published code: drafted under audit, refused while a TODO is left, then used."""
    drafts, settings = tmp_path / "drafts", own_broker.settings(session_timeout=6)
    asked = ("altibbi", "--since", "2024-01-01T00:00:00Z", "--reason", "ticket 12", "--to", drafts)
    assert fhirline("ingest", "altibbi", events, bootstrap=own_broker.bootstrap).returncode == 0
    made = draft(*asked, bootstrap=own_broker.bootstrap)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stderr.splitlines()[0])["event"] == "words of events shown"
    assert {path.name for path in drafts.iterdir()} == {"frequency.yaml", "dose-unit.yaml"}
    again = draft(*asked, bootstrap=own_broker.bootstrap)
    assert (again.returncode, "exists" in again.stderr) == (2, True), "a draft under review is not replaced"

    with running(settings, FHIRLINE_TERMINOLOGY_DIR=str(drafts)) as worker:
        assert worker.wait() == 2
        assert "dose-unit.yaml:8: rows.0: this row is a draft: replace each TODO" in worker.output
    (drafts / "dose-unit.yaml").unlink()
    path = drafts / "frequency.yaml"
    text = path.read_text("utf-8").split('  - source: ["At noon"]')[0]  # the reviewer deletes the second row
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for decided in ("1", "1", "mo", "MOON", "each full moon", "approved, date", "approved, date"):
        text = text.replace(TODO, f'"{decided}"' if "," in decided else decided, 1)
    assert TODO not in text, text
    path.write_text(text, "utf-8")

    reviewed = settings.model_copy(update={"terminology_dir": drafts})
    with Scanner(settings) as scanner:
        raws = [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions([RAW])))]
    store = Store(settings)
    with running(settings, FHIRLINE_TERMINOLOGY_DIR=str(drafts)) as worker:
        wait_until_as(undisturbed(reviewed, raws), store, worker)
    requests = [json.loads(value) for name, value in store.values.items() if "MedicationRequest/" in name]
    store.close()
    moons = [
        timing
        for request in requests
        for dosage in request.get("dosageInstruction", ())
        if (timing := dosage.get("timing", {})) and "moon" in timing.get("code", {}).get("text", "").lower()
    ]
    assert len(moons) == 4, "the word occurs four times in three spellings"
    for timing in moons:
        assert timing["repeat"] == {"frequency": 1, "period": 1, "periodUnit": "mo"}
        assert [coding["code"] for coding in timing["code"]["coding"]] == ["MOON"]
    assert (
        '["Every full moon"]'
        not in draft(*asked[:-2], bootstrap=own_broker.bootstrap, FHIRLINE_TERMINOLOGY_DIR=str(drafts)).stdout
    )


def test_doctor_counts_what_is_missing_and_shows_no_word(own_broker: RunningBroker, events: Path) -> None:
    from fhirline.streams.operate.doctor.mapping import coverage

    drifting = recommendation(4, {"frequency": "weekly"}) | {"news": {"Jane Doe": 1}}
    events.write_text(events.read_text("utf-8") + json.dumps(drifting), "utf-8")
    assert fhirline("ingest", "altibbi", events, bootstrap=own_broker.bootstrap).returncode == 0
    found = [finding for finding in coverage(settings_for(own_broker.bootstrap)) if "altibbi" in finding.text]
    assert [(finding.check, finding.level.value, finding.text) for finding in found] == [
        (
            "words",
            "warning",
            "altibbi: the newest events (4) have words without a row in their table: frequency 6, dose-unit 1",
        ),
        ("paths", "warning", "altibbi: the newest events (4) have values at paths without a rule: /news 1"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("altibby", "x.json"), "VENDOR: unknown vendor"),
        (("altibbi",), "name files to read, or --since"),
        (("altibbi", "x.json", "--since", DAY, "--reason", "x"), "name files to read, or --since"),
        (("altibbi", "/nowhere/x.json"), "/nowhere/x.json: No such file"),
        (("altibbi", "--since", "yesterday", "--reason", "x"), "--since: not an RFC 3339 instant"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    made = draft(*arguments)
    assert (made.returncode, made.stdout) == (2, "")
    assert message in made.stderr
    assert made.stderr.count("\n") == 1


def test_a_draft_overwrites_nothing_and_is_not_written_where_it_is_loaded(events: Path, tmp_path: Path) -> None:
    drafts = tmp_path / "drafts"
    assert draft("altibbi", "--ndjson", events, "--to", drafts).returncode == 0
    again = draft("altibbi", "--ndjson", events, "--to", drafts)
    assert (again.returncode, f"{drafts}/dose-unit.yaml exists" in again.stderr) == (2, True)
    (tmp_path / "own").mkdir()
    loaded = draft("altibbi", events, "--to", tmp_path / "own", FHIRLINE_TERMINOLOGY_DIR=str(tmp_path / "own"))
    assert (loaded.returncode, "is FHIRLINE_TERMINOLOGY_DIR" in loaded.stderr) == (2, True)
    assert [*(tmp_path / "own").iterdir()] == []


def test_a_body_that_cannot_be_read_is_named_and_the_others_are_drafted(events: Path) -> None:
    events.write_text("[]\n" + events.read_text("utf-8"), "utf-8")
    made = draft("altibbi", "--ndjson", events)
    assert made.returncode == 1
    assert f"fhirline terminology: {events}:1: " in made.stderr
    assert "Every full moon" in made.stdout


def test_an_event_that_is_too_complex_is_named_and_the_others_are_drafted(events: Path) -> None:
    large = recommendation(4, *[{"frequency": "at noon"}] * 1_001)
    events.write_text(json.dumps(large) + "\n" + events.read_text("utf-8"), "utf-8")
    made = draft("altibbi", "--ndjson", events)
    assert made.returncode == 1
    assert "too-complex" in made.stderr
    assert "Every full moon" in made.stdout
