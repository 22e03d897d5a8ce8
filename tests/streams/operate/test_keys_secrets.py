"""``fhirline keys list``, ``new`` and ``destroy-old``: what they say about the secrets, and what they write of it."""

import fcntl
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import orjson
import pytest

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
    with left.open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        assert secrets_file.left_over(file) == [], "that of a command that goes on"
    planned = keys("destroy-old", "--dry-run", "--unused-for", "0")
    for said in (planned, keys("destroy-old", "--yes", "--unused-for", "0")):
        assert "continues: an earlier command was interrupted" in said
        assert "completes the erasures of 1 destroyed data key," in said
        assert "does not complete those of 1 destroyed data key, which 2026-11 unwraps" in said
    assert [item.name for item in file.parent.iterdir()] == [file.name]
    assert [*secrets_file.read(file).keks] == ["2026-11"]
    later = keys("destroy-old", "--yes", "--unused-for", "0")
    assert "removed from the file by an earlier run: 2026-05" in later
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
