"""``fhirline keys list``, ``new`` and ``destroy-old``: what they say about the secrets, and what they write of it."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli import output
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.keys.destroy_old import destroy_old
from fhirline.streams.cli.keys.list import list_
from fhirline.streams.cli.keys.rewrap import rewrap
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.encryption.secrets import parse
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.observe import logs
from fhirline.streams.operate.keys import secrets_file
from fhirline.topics.declared import KEYS
from tests.streams.operate import test_keys
from tests.streams.operate.test_keys import AT, made
from tests.support.encryption import ENCRYPTION, INDEX, OLD, ROTATED
from tests.support.kafka.brokers import RunningBroker
from tests.support.small_disk import SmallDisk, mounted
from tests.support.waiting import LIMIT
from tests.support.workload import produce

file, keys = test_keys.file, test_keys.keys


def anew(key: ProducerRecord) -> ProducerRecord:
    """Wrap a data key with the new key-encryption key."""
    secrets, name = parse(ROTATED), key.key.decode()
    return ProducerRecord(KEYS, key.key, secrets.wrap(name, secrets.unwrap(name, key.value or b"")), 0)


def test_a_wrong_value_of_a_key_encryption_key_is_noticed(
    own_broker: RunningBroker, keys: Callable[..., str], file: Path
) -> None:
    produce(own_broker.settings(), [*made(parse(ENCRYPTION), 2), *made(parse(ROTATED), 3)])
    keys("list")
    file.write_text(ROTATED.replace(OLD, "44" * 32))
    said = keys("list", code=1)
    assert "the secret KEK 2026-05 does not open keys that it wrapped" in said
    assert "2026-05\twrong\t2\t0" in said
    assert "2026-11\twraps\t3\t0" in said
    for secret in (INDEX, OLD, "44" * 32):
        assert secret not in said
    before = file.read_text()
    assert "the secret KEK 2026-05 does not open" in keys("destroy-old", "--yes", "--unused-for", "0", code=1)
    assert file.read_text() == before


def test_new_secrets_in_a_file_are_audited(keys: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "new"
    said = keys("new", "--file", str(path), "--kek", "2027-01", "--reason", "the first", "--as", "Ann")
    [line] = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (line["event"], line["by"], line["kek"]) == ("encryption secrets made", "keys", "2027-01")
    assert (line["reason"], line["as"], line["logger"]) == ("the first", "Ann", "audit")
    assert secrets_file.read(path).index_secret.hex() not in said
    assert '"event"' not in keys("new", "--file", str(path), code=2), "audited what was not done"
    assert '"event"' not in keys("new")


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    yield from mounted(1)


def test_secrets_that_cannot_be_written_are_named_and_leave_no_file(keys: Callable[..., str], disk: SmallDisk) -> None:
    disk.fill()
    path, link = disk.path / "new", disk.path / "link"
    said = keys("new", "--file", str(path), code=2)
    assert f"--file {path}: No space left on device" in said
    assert "Traceback" not in said
    assert not path.exists()
    disk.free()
    link.symlink_to(disk.path / "nowhere")
    assert "is a link that leads nowhere" in keys("new", "--file", str(link), code=2)
    assert "No such file or directory" in keys("new", "--file", str(disk.path / "none" / "new"), code=2)
    assert "Traceback" not in keys("new", "--file", str(disk.path), code=2)
    path.touch()
    assert "is empty: an earlier run was killed" in keys("new", "--file", str(path), code=2)
    path.unlink()
    assert "written:" in keys("new", "--file", str(path))
    assert "cannot be read without them" in keys("new", "--file", str(path), code=2)


def test_a_change_that_cannot_be_written_leaves_the_file_as_it_was(disk: SmallDisk) -> None:
    path = disk.path / "encryption"
    path.write_text(ENCRYPTION)
    disk.fill()
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="No space left on device"):
            secrets_file.add_key(path, "2027-01")
    with pytest.raises(ConfigurationError, match="No space left on device"):
        secrets_file.create(disk.path / "new", parse(ENCRYPTION))
    assert len([*Path("/proc/self/fd").iterdir()]) == before, "descriptors are left open"
    assert path.read_text() == ENCRYPTION
    assert secrets_file.left_over(path) == []


def test_what_is_said_before_the_secrets_are_written_may_fail(tmp_path: Path) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(BrokenPipeError):
        secrets_file.create(tmp_path / "new", parse(ENCRYPTION), _failing)
    assert [*tmp_path.iterdir()] == []
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def _failing() -> None:
    raise BrokenPipeError


def test_an_id_of_this_month_is_free_or_asked_for() -> None:
    month = secrets_file.new_id()
    taken = [month, *(month + letter for letter in "bcdefghijklmnopqrstuvwxyz")]
    assert secrets_file.new_id(taken[:-1]) == taken[-1]
    with pytest.raises(ConfigurationError, match="--kek: required"):
        secrets_file.new_id(taken)


def test_the_end_of_old_keys_says_what_it_completes_and_what_an_earlier_run_did(
    own_broker: RunningBroker, keys: Callable[..., str], file: Path
) -> None:
    both, only_old, living = made(parse(ENCRYPTION), 3)
    again = [anew(key) for key in (both, living)]
    marks = [ProducerRecord(KEYS, key.key + f"/{DESTROYED}".encode(), AT, 0) for key in (both, only_old)]
    produce(own_broker.settings(), [both, only_old, living, *again, *marks])
    file.write_text(ROTATED)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(file)], timeout=LIMIT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_text() == ROTATED
    [left] = secrets_file.left_over(file)
    planned = keys("destroy-old", "--dry-run", "--unused-for", "0")
    for said in (planned, keys("destroy-old", "--yes", "--unused-for", "0")):
        assert "continues: an earlier command was interrupted" in said
        assert "completes the erasures of 1 destroyed data key," in said
        assert "does not complete those of 1 destroyed data key, which 2026-11 unwraps" in said
    assert f"would be removed: 2026-05 and beside the file {left.name}." in planned
    assert "removed: 2026-05. Remove them from every copy" in said
    assert f"removed beside it: {left.name}" in said
    [audited] = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (audited["event"], audited["kek"]) == ("key-encryption keys destroyed", "2026-05")
    assert audited["files"] == left.name
    assert [item.name for item in file.parent.iterdir()] == [file.name]
    assert [*secrets_file.read(file).keks] == ["2026-11"]
    later = keys("destroy-old", "--yes", "--unused-for", "0")
    assert "not in the file any more: 2026-05. No living data key needs them" in later
    assert "nothing was done" in later


_KILLED = """
import os, signal, sys
from pathlib import Path
from threading import Barrier
from fhirline.streams.observe import logs
from fhirline.streams.operate.keys import secrets_file

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
secrets_file.remove(Path(sys.argv[1]), {"2026-05"})
"""


def test_a_file_that_a_command_left_is_removed_where_nothing_else_is_to_be_done(
    own_broker: RunningBroker, keys: Callable[..., str], file: Path
) -> None:
    produce(own_broker.settings(), made(parse(ENCRYPTION), 1))
    file.write_text(ENCRYPTION)
    left = file.with_name(f".{file.name}.x.unfinished")
    left.write_text(ROTATED)
    said = keys("destroy-old", "--yes")
    assert f"removed beside it: {left.name}" in said
    assert "removed: " not in said, "no key-encryption key was removed"
    [audited] = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (audited["event"], audited["files"]) == ("unfinished files of secrets removed", left.name)
    assert "kek" not in audited
    assert not left.exists()


@pytest.mark.parametrize("looks", [secrets_file.left_over, secrets_file.remove_left_over])
def test_the_file_of_a_command_that_goes_on_is_not_taken_for_one_that_was_left(
    looks: Callable[[Path], list[Path]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at any moment: the other one may have made it just now."""
    make, made_file, go_on = tempfile.mkstemp, Event(), Event()

    def making(**arguments: Any) -> tuple[int, str]:
        found = make(**arguments)
        made_file.set()
        assert go_on.wait(LIMIT)
        return found

    monkeypatch.setattr(tempfile, "mkstemp", making)
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(secrets_file.add_key, file, "2027-01")
        assert made_file.wait(LIMIT)
        looking = pool.submit(looks, file)
        wait([looking], 0.3)  # it waits for the other: nothing to await
        assert not looking.done()
        go_on.set()
        assert looking.result(LIMIT) == []
        assert "2027-01" in adding.result(LIMIT).keks
    assert [*file.parent.iterdir()] == [file]


def test_keys_that_are_added_at_the_same_time_are_all_in_the_file(file: Path) -> None:
    ids, together = [f"added-{number}" for number in range(12)], Barrier(12)

    def add(id: str) -> None:
        together.wait(LIMIT)
        secrets_file.add_key(file, id)

    before = secrets_file.read(file).keks
    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(add, ids))
    assert secrets_file.read(file).keks.keys() == {*before, *ids}


def test_what_reads_all_data_keys_reports_how_far_it_is(
    own_broker: RunningBroker, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(own_broker.settings(), made(parse(ENCRYPTION), 20))
    monkeypatch.setenv("FHIRLINE_BOOTSTRAP", own_broker.bootstrap)
    monkeypatch.setenv("FHIRLINE_ENCRYPTION_FILE", str(file))
    monkeypatch.setattr(output, "LINE_SECONDS", -1.0)  # every step is a line
    monkeypatch.setattr(logs, "configure_logging", lambda settings: None)  # later tests log, too
    destroys: dict[str, Any] = {"unused_for": 0.0, "dry_run": True}
    commands: list[Callable[[], None]] = [list_, lambda: rewrap(dry_run=True), lambda: destroy_old(**destroys)]
    for command in commands:
        with suppress(CommandFailed):  # living data keys are wrapped by the older one
            command()
        assert re.search(r"^reading: [1-9][0-9]* \(normalizer\.keys\)$", capsys.readouterr().err, re.MULTILINE)
