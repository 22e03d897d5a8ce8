"""An erasure names the replays whose folders hold resources of the patient in clear."""

import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.operate.erasure.report import lines
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.journal import Batch, Journal
from fhirline.streams.operate.replay.patient import PatientRecords, held_by_runs
from fhirline.streams.operate.replay.patient import lines as replay_lines
from fhirline.streams.operate.replay.view import events_line, failures
from fhirline.streams.step3_restore.erasure_list import Compartment
from tests.support import cli
from tests.support.encryption import ENCRYPTION
from tests.support.erasure import SECRET, erase, of
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.replaying import DIFFERS, replay
from tests.support.workload import produce


def mapped(load: Load, folder: Path, vendor: str) -> str:
    """Replay a vendor's events, which nobody has published, into a folder of its own. Return the run's id."""
    before = folders.ids(folder / "runs")
    done = replay(load.settings, folder, "--vendor", vendor, "--tenant", load.tenant, FHIRLINE_ENCRYPTION=ENCRYPTION)
    assert done.code == DIFFERS, done.said
    [run] = {*folders.ids(folder / "runs")} - {*before}
    return run


def said(settings: Settings, patient: Compartment) -> str:
    """Return what the report of an erasure says of replays."""
    told = [line for line in lines(erase(settings, patient), 7) if "replay" in line or line.startswith(" " * 18)]
    return "\n".join(line for line in told if re.search(r"--discard|run this again|the next replay|REPLAY_DIR", line))


@pytest.fixture
def load(own_broker: RunningBroker, tmp_path: Path) -> Load:
    """Encrypted events of one tenant that nobody has mapped."""
    load = load_on(own_broker)
    load.settings = own_broker.settings(
        erasure_key=SECRET, session_timeout=6, encryption=ENCRYPTION, replay_dir=tmp_path / "runs"
    )
    load.raws = produce(load.settings, load.events(60, seed=3))
    return load


@pytest.mark.long
def test_runs_that_hold_the_patient_are_named_until_they_are_discarded(load: Load, tmp_path: Path) -> None:
    """Also by a second run, when nobody can read the events any more; and not those that hold others only."""
    patient, root = load.patient("mediquo"), tmp_path / "runs"
    mine, other = mapped(load, tmp_path, "mediquo"), mapped(load, tmp_path, "altibbi")
    journals = b"".join(path.read_bytes() for path in (root / mine).glob("*.sqlite*"))
    assert patient.key.encode() in journals, "it is in clear"
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": load.settings.bootstrap,
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
        "FHIRLINE_ERASURE_KEY": SECRET,
        "FHIRLINE_REPLAY_DIR": str(root),
    }
    named = ("--vendor", "mediquo", "--tenant", load.tenant, "--patient", patient.key)
    dry = cli.run("forget", *named, "--dry-run", env=environment)
    assert dry.returncode == 0, dry.stderr
    for told in (dry.stdout, said(load.settings, patient), said(load.settings, patient)):
        found = re.search(rf"{mine} holds (\d+) resources and (\d+) state entries of this patient in clear", told)
        assert found, told
        assert int(found[1]) >= sum(of(raw, [patient]) for raw in load.raws)
        assert int(found[2]) > 0
        assert f"fhirline replay --discard {mine}" in told
        assert other not in told
        assert patient.key not in told
    assert (root / mine).is_dir(), "nothing is removed unasked"
    discarded = cli.run("replay", "--discard", mine, "--yes", env=environment)
    assert discarded.returncode == 0, discarded.stderr
    assert said(load.settings, patient) == ""


@pytest.mark.long
def test_runs_that_cannot_be_looked_into_are_named(load: Load, tmp_path: Path) -> None:
    patient, root = load.patient("altibbi"), tmp_path / "runs"
    used, damaged, empty = (mapped(load, tmp_path, "mediquo") for _ in range(3))
    (root / damaged / "run.json").write_bytes(b"{")
    (root / empty / "run.json").unlink()
    left = root / ".20260301-101500-1"
    left.mkdir()
    descriptor = folders.lock(root / used)
    assert descriptor is not None
    try:
        told = said(load.settings, patient)
    finally:
        os.close(descriptor)
    assert f"{used} is in use, and may hold this patient's resources: run this again when it has ended" in told
    assert f"{damaged} cannot be read (unreadable), and may hold this patient's resources: discard it" in told
    assert f"{empty} cannot be read (No such file or directory), and may hold this patient's resources" in told
    assert f"{left.name} was left by a command that was killed" in told


def test_events_of_erased_patients_are_counted_apart(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.save(Batch(mapped=[0, 1, 2], erased=[1], failed=[(2, "empty", "")]), 3, live=False)
        journal.save(Batch(mapped=[3], erased=[3]), 4, live=True)
        assert (journal.events, journal.erased) == (2, 1), "live events do not count"
        told = events_line([journal], failures([journal]))
    failed = "failed: 1 x empty (their records were not changed)"
    assert told == f"2 events mapped; 1 of erased patients passed over; {failed}"


def test_a_folder_of_runs_that_cannot_be_read_ends_no_erasure(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 300)  # longer than a name may be
    (held,) = held_by_runs(root, PatientRecords((), (), ()))
    [line] = replay_lines([held])
    assert f"FHIRLINE_REPLAY_DIR: {root}: File name too long: look for runs there" in line
