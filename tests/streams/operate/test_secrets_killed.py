"""``keys rotate``, ``destroy-old`` and ``give-up``, killed at random moments and run again, end as if nobody had."""

import os
import random
import re
import signal
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fhirline.config.own_command import own_command
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, KeyRing
from fhirline.streams.kafka.encryption.key_ring import ERASED as MARKER
from fhirline.streams.kafka.encryption.secrets import parse
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.keys import secrets_file
from fhirline.topics.declared import KEYS
from tests.streams.operate.test_keys import AT, last_values, with_secrets
from tests.streams.operate.test_keys_killed import KILLS, SEED
from tests.support import cli
from tests.support.encryption import ENCRYPTION, INDEX, secrets_of
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT
from tests.support.workload import produce

LOST_KEYS = 20_000
AUDITED = re.compile(rb"key-encryption keys? (added|activated|destroyed)|data keys given up")


@dataclass
class Deployment:
    """Data keys of a few patients, of whom some are erased, and the file of secrets that commands change."""

    settings: Settings
    file: Path
    living: list[DataKey] = field(default_factory=list)
    erased: list[DataKey] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    kills: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        secrets = secrets_of(self.settings)
        made = [DataKey.new(secrets, secrets.index(f"mediquo|acme|{number}"), number % 2) for number in range(60)]
        self.erased, self.living = made[:10], made[10:]
        produce(self.settings, [key.record(number % 2) for number, key in enumerate(made)])
        marks = [ProducerRecord(KEYS, f"{key.index}/{MARKER}".encode(), AT, n % 2) for n, key in enumerate(self.erased)]
        produce(self.settings, marks)

    @property
    def environment(self) -> dict[str, str]:
        bootstrap = self.settings.bootstrap
        return {**os.environ, "FHIRLINE_BOOTSTRAP": bootstrap, "FHIRLINE_ENCRYPTION_FILE": str(self.file)}

    def run(self, *arguments: str, code: int = 0) -> str:
        done = cli.run("keys", *arguments, env=self.environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def kill(self, *arguments: str, within: float = 0.01) -> None:
        """Kill a run a moment after its line for the audit, which it writes before it changes anything.

        ``within``: seconds, of which the moment is a random part.
        """
        process = subprocess.Popen(
            own_command("keys", *arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        audited = next((True for line in process.stderr if AUDITED.search(line)), False)
        assert audited, f"{arguments} ended before it had begun"
        moment = self.rng.uniform(0, within)
        end = time.monotonic() + moment
        while time.monotonic() < end:
            pass  # a sleep takes longer than what is to be interrupted
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)
        process.stderr.close()
        self.kills.append(f"{arguments[0]} {process.returncode} after {moment * 1000:.1f} ms")

    def check(self) -> list[str]:
        """Check that the file can be used, and opens what it must and nothing else. Return its key-encryption keys."""
        held = secrets_file.read(self.file)
        assert held.index_secret.hex() == INDEX
        assert self.file.stat().st_mode & 0o777 == 0o600
        with closing(KeyRing(self.settings, held)) as ring:
            ring.read_on([0, 1])
            for number, key in enumerate(self.living):
                found = ring.find(number % 2, key.index, key.number)
                assert found is not None
                assert found.key == key.key
            for number, key in enumerate(self.erased):
                assert ring.find(number % 2, key.index, key.number) is None
        return [*held.keks]


@pytest.fixture
def deployment(own_broker: RunningBroker, tmp_path: Path) -> Deployment:
    file = tmp_path / "encryption"
    file.write_text(ENCRYPTION)
    file.chmod(0o600)
    return Deployment(with_secrets(own_broker, ENCRYPTION), file)


@pytest.mark.long
def test_a_rotation_that_is_killed_at_each_step_is_finished_by_running_it_again(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    current = "2026-05"
    for number in range(KILLS):
        new = f"kek-{number}"
        add, activate = ("rotate", "--kek", new, "--yes"), ("rotate", "--activate", new, "--yes")
        destroy = ("destroy-old", "--yes", "--unused-for", "0")
        deployment.kill(*add)
        if deployment.check() == [current]:
            deployment.run(*add)
        else:  # it was done already, and says so
            assert f"{new}: is in the file already: an earlier run has added it" in deployment.run(*add, code=2)
        assert deployment.check() == [current, new]
        deployment.kill(*activate)
        assert deployment.check() in ([current, new], [new, current])
        deployment.run(*activate)
        assert deployment.check() == [new, current]
        deployment.run("rewrap", "--yes")
        deployment.kill(*destroy)
        assert deployment.check() in ([new, current], [new])
        deployment.run(*destroy)
        assert deployment.check() == [new]
        assert [path.name for path in deployment.file.parent.iterdir()] == [deployment.file.name]
        current = new
    with capsys.disabled():
        print(f"\nkilled: {'; '.join(deployment.kills)}")
    assert [kill for kill in deployment.kills if " -9 " in kill], "no kill came before the end"


@pytest.mark.long
def test_keys_that_are_given_up_by_a_command_that_is_killed_are_all_given_up_in_the_end(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of other patients open all the time."""
    lost = parse(f"index:{INDEX} lost:{'44' * 32}")
    keys = [DataKey.new(lost, lost.index(f"altibbi|acme|{number}"), number % 2) for number in range(LOST_KEYS)]
    produce(deployment.settings, [key.record(number % 2) for number, key in enumerate(keys)])
    command = ("give-up", "--kek", "lost", "--reason", "test", "--restarted", "--yes")
    marks = {f"{key.name}/{DESTROYED}".encode() for key in keys}
    written: list[int] = []
    for _ in range(KILLS):
        if not marks <= last_values(deployment.settings).keys():
            deployment.kill(*command, within=1.0)
            written.append(len(marks & last_values(deployment.settings).keys()))
            deployment.check()
    again = cli.run("keys", *command, env=deployment.environment)
    if again.returncode:
        assert "--kek lost: wraps no living data key" in again.stderr
    deployment.check()
    assert marks <= last_values(deployment.settings).keys()
    with capsys.disabled():
        print(f"\nkilled: {'; '.join(deployment.kills)}; data keys given up by then: {written}")
    assert [kill for kill in deployment.kills if " -9 " in kill], "no kill came before the end"
