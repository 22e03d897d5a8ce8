"""A run's folder: what it may be resumed under, who can read it, how it is listed and removed."""

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.table_digests import tables_version
from fhirline.config.terminology import load_terminology
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import TABLES_VERSION, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, headers_of
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.inputs import VERSIONS, InputsChanged, differences, inputs_of
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.run import Run
from fhirline.streams.operate.replay.selection import Selection
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.replaying import DIFFERS, SAME, WRONG, environment, replay, unchanged
from tests.support.workload import events, produce

PACKAGED_VENDORS = Path(__file__).parents[3] / "config" / "vendors.yaml"
NEW_WORD = """\
version: maps-3
title: test
rows:
  - { source: [A word that no event contains], means: { gender: unknown }, evidence: test }
"""
OTHER_MEANING = """\
version: maps-3
title: test
rows:
  - { source: [FEMALE], means: { gender: unknown }, evidence: test }
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[Settings, list[ConsumerRecord]]]:
    """A broker with Azodha's events, which nobody has mapped yet."""
    with EmbeddedBroker() as embedded:
        create_topics(embedded.bootstrap)
        settings = RunningBroker("embedded", embedded.bootstrap).settings(session_timeout=6)
        yield settings, produce(settings, [event for event in events(400, seed=41) if event.topic == "raw.azodha"])


def command(settings: Settings, folder: Path, *arguments: str, umask: int = -1, **more: str) -> str:
    """Run ``fhirline replay``. Return its exit code and all that it printed."""
    done = cli.run("replay", *arguments, env=environment(settings, folder, **more), umask=umask)
    return f"{done.returncode} {done.stdout}{done.stderr}"


def tables(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "azodha-gender.yaml").write_text(text)
    return str(folder)


def vendors(path: Path, **changes: object) -> Path:
    """Write a vendors.yaml in which Azodha's defaults differ from the packaged ones."""
    document = yaml.safe_load(PACKAGED_VENDORS.read_text("utf-8"))
    document["vendors"]["azodha"]["defaults"].update(changes)
    path.write_text(yaml.safe_dump(document))
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.long
def test_a_run_is_published_under_the_inputs_that_it_began_with_only(
    broker: tuple[Settings, list[ConsumerRecord]], tmp_path: Path
) -> None:
    """Each difference is named without its value. Afterwards every record names the tables that made it."""
    settings, _ = broker
    assert replay(settings, tmp_path, "--vendor", "azodha").code == DIFFERS
    (run,) = folders.ids(tmp_path / "runs")
    for name, changed in {
        "table terminology/azodha-gender.yaml": {"FHIRLINE_TERMINOLOGY_DIR": tables(tmp_path / "new", NEW_WORD)},
        "azodha in vendors.yaml": {
            "FHIRLINE_VENDORS_FILE": str(vendors(tmp_path / "vendors.yaml", source_time_zone="Asia/Tokyo"))
        },
        "FHIRLINE_BASE": {"FHIRLINE_BASE": "https://elsewhere.example"},
        "FHIRLINE_SERVER_BASE, FHIRLINE_VALIDATION": {
            "FHIRLINE_SERVER_BASE": "https://elsewhere.example",
            "FHIRLINE_VALIDATION": "off",
        },
    }.items():
        refused = replay(settings, tmp_path, "--resume", run, "--publish", **changed)
        assert refused.code == WRONG, refused.said
        assert f"since run {run} began, this has changed: {name}: start a new run" in refused.said
        assert "elsewhere" not in refused.said
        assert "Tokyo" not in refused.said
        listed = command(settings, tmp_path, "--list", umask=0o022, **changed)
        assert "\tmapped\t" in listed
        assert listed.rstrip().endswith(f"changed: {name}")
    with Scanner(settings) as scanner:
        places = scanner.topic_partitions([canonical_topic(item) for item in RESOURCE_TYPES])
        assert [*scanner.read(dict.fromkeys(places))] == [], "a refused run writes nothing"
        published = replay(settings, tmp_path, "--resume", run, "--publish")
        assert " 0 tombstones published" in published.said, published.said
        made = [header(headers_of(item), TABLES_VERSION) for item in scanner.read(dict.fromkeys(places))]
    assert {*made} == {tables_version(load_terminology())}
    assert [*(tmp_path / "runs").iterdir()] == [], "a finished run leaves nothing"

    same = replay(settings, tmp_path, "--vendor", "azodha", FHIRLINE_TERMINOLOGY_DIR=tables(tmp_path / "new", NEW_WORD))
    unchanged(same)  # a header alone is no difference
    other = tables(tmp_path / "other", OTHER_MEANING)
    differs = replay(settings, tmp_path, "--vendor", "azodha", FHIRLINE_TERMINOLOGY_DIR=other)
    was, now = tables_version(load_terminology()), tables_version(load_terminology(Path(other)))
    assert was != now
    assert [line["tables"] for line in differs.lines] == [{"was": was, "now": now}] * len(differs.lines) != []


def test_a_table_that_changes_while_a_run_starts_is_noticed(
    broker: tuple[Settings, list[ConsumerRecord]], tmp_path: Path
) -> None:
    """The mapping processes read the tables for themselves, after the run has stored their digests."""
    folder = Path(tables(tmp_path / "own", NEW_WORD))
    settings = broker[0].model_copy(update={"terminology_dir": folder, "replay_dir": tmp_path / "runs"})
    with Run.new(settings, Selection(("azodha",)), 1) as run:
        tables(folder, OTHER_MEANING)
        with pytest.raises(
            InputsChanged, match=r"^table terminology/azodha-gender\.yaml: changed while the run started"
        ):
            run.map()


@pytest.mark.parametrize("umask", [0, 0o022])
def test_only_the_owner_can_read_what_a_run_writes(
    broker: tuple[Settings, list[ConsumerRecord]], tmp_path: Path, umask: int
) -> None:
    """Folders have mode 0700 and files 0600, also a ``--diff-out`` that others could read before."""
    settings, _ = broker
    out = tmp_path / "changes.jsonl"
    out.write_text("of an earlier run\n" * 100_000)
    out.chmod(0o666)
    arguments = ("--vendor", "azodha", "--to-prefix", "modes.", "--jobs", "1", "--diff-out", str(out))
    assert command(settings, tmp_path / "deep", *arguments, umask=umask).startswith(f"{DIFFERS} ")
    runs = tmp_path / "deep" / "runs"
    (run,) = runs.iterdir()
    assert {mode(path) for path in (runs.parent, runs, run)} == {0o700}
    written = [*run.iterdir()]
    assert {path.suffix for path in written} >= {".json", ".sqlite"}
    assert {mode(path) for path in (*written, out)} == {0o600}
    assert b"earlier" not in out.read_bytes()


def test_runs_are_listed_and_discarded(broker: tuple[Settings, list[ConsumerRecord]], tmp_path: Path) -> None:
    settings, _ = broker
    asked = ("--vendor", "azodha", "--patient", "somebody", "--jobs", "1", "--to-prefix", "list.")
    assert command(settings, tmp_path, "--list").splitlines()[1:] == []
    assert command(settings, tmp_path, *asked, "--keep").startswith(f"{SAME} ")
    (run,) = (tmp_path / "runs").iterdir()
    columns = command(settings, tmp_path, "--list").splitlines()[1].split("\t")
    assert columns[0] == run.name
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", columns[1])
    assert columns[2:4] == ["azodha; one patient", "mapped"]
    assert re.fullmatch(r"[\d.]+ [kM]B", columns[4])
    assert columns[5] == "unchanged"

    unasked = command(settings, tmp_path, "--discard", run.name)
    assert unasked.startswith(f"{WRONG} ")
    assert "--yes" in unasked
    descriptor = os.open(run / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert "\tin use\t" in command(settings, tmp_path, "--list")
    for option in ("--discard", "--resume"):
        used = command(settings, tmp_path, option, run.name, *(["--yes"] if option == "--discard" else []))
        assert used.startswith(f"{WRONG} ")
        assert "is in use by another process" in used
    os.close(descriptor)
    (journal, *_) = run.glob("raw.azodha-*.sqlite")
    journal.write_bytes(b"damaged" * 100)
    for damaged in run.glob(f"{journal.name}-*"):
        damaged.unlink()
    assert "\tunreadable\t" in command(settings, tmp_path, "--list")
    (run / "run.json").write_text("{}")
    assert "\tunreadable\t" in command(settings, tmp_path, "--list")
    assert "damaged, or of another release" in command(settings, tmp_path, "--resume", run.name)
    assert command(settings, tmp_path, "--discard", run.name, "--yes").startswith(f"{SAME} Removed: run {run.name}.\n")
    assert [*(tmp_path / "runs").iterdir()] == []


@pytest.mark.parametrize("id", ["..", "../outside", ".", "", "20260101-000000-1/../../outside", "20260101-000000-1"])
@pytest.mark.parametrize("option", ["--discard", "--resume"])
def test_an_id_is_no_path(id: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "runs" / "20260101-000000-1").symlink_to(outside)
    with pytest.raises(ConfigurationError, match=f"^{option}: no run "):
        folders.existing(tmp_path / "runs", option, id)
    assert outside.is_dir()


def plan(id: str = "20260101-000000-1") -> Plan:
    return Plan(id, "2026-01-01T00:00:00Z", Selection(("azodha",)), (), "", False, {}, "")


def test_what_a_kill_left_is_removed_when_the_next_run_starts(tmp_path: Path) -> None:
    """A folder without its name is of a process that was killed, unless one has locked it, or has just made it."""
    for name, locked in ((".20250101-000000-1", True), (".20250101-000000-2", False), (".20250101-000000-3", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "raw.azodha-0.sqlite").write_bytes(b"a patient's data")
        if locked:
            (tmp_path / name / "lock").touch()
    just_made = tmp_path / ".20250101-000000-3"
    os.utime(tmp_path / ".20250101-000000-2", (0, 0))
    (tmp_path / ".notes").mkdir()
    folder, descriptor = folders.create(tmp_path, plan())
    assert sorted(path.name for path in tmp_path.iterdir()) == [just_made.name, ".notes", folder.name]
    being_removed = folder.rename(tmp_path / f".{folder.name}")
    _, other = folders.create(tmp_path, plan("20260101-000000-2"))
    assert being_removed.exists(), "another process is at it"
    os.close(descriptor)
    folders.remove_leftovers(tmp_path)
    assert not being_removed.exists()
    os.close(other)


def test_settings_of_other_processes_are_no_inputs() -> None:
    """Another port, another FHIR server or a new key-encryption key must not make a run useless."""
    names = {name for name in inputs_of(Settings()) if name.startswith("FHIRLINE_")}
    assert {name for name in names if not name.startswith("FHIRLINE_MAX_")} == {
        "FHIRLINE_BASE",
        "FHIRLINE_MESSAGE_MAX_BYTES",
        "FHIRLINE_PARTITIONS",
        "FHIRLINE_SERVER_BASE",
        "FHIRLINE_VALIDATION",
    }


def test_inputs_differ_by_what_decides_bytes_only(tmp_path: Path) -> None:
    settings = Settings()
    packaged = inputs_of(settings)

    def changed(**settings_: object) -> tuple[str, ...]:
        return differences(packaged, inputs_of(settings.model_copy(update=settings_)))

    credential = {"header": "x-other", "secrets": ["FHIRLINE_OTHER"]}
    harmless = {"credential": credential, "rate_limit": {"per_second": 1.0}}
    assert changed(vendors_file=vendors(tmp_path / "harmless.yaml", **harmless)) == ()
    assert changed(vendors_file=vendors(tmp_path / "zone.yaml", source_time_zone="Asia/Tokyo")) == (
        "azodha in vendors.yaml",
    )
    assert changed(bootstrap="elsewhere:9092", group="other", log_level="debug", replay_dir=tmp_path) == ()
    assert changed(partitions=7, message_max_bytes=100_000) == ("FHIRLINE_PARTITIONS", "FHIRLINE_MESSAGE_MAX_BYTES")
    before = {**packaged, "mapping version": "map-0"}
    assert differences(before, packaged) == (f"mapping version (map-0, now {VERSIONS['mapping version']})",)
    reworded = OTHER_MEANING.replace("evidence: test", "evidence: another place").replace("maps-3", "maps-4")
    one, other = (Path(tables(tmp_path / name, text)) for name, text in (("one", OTHER_MEANING), ("two", reworded)))
    assert inputs_of(settings.model_copy(update={"terminology_dir": one})) == inputs_of(
        settings.model_copy(update={"terminology_dir": other})
    ), "where a row was checked, and a table's version, decide nothing"
