"""``fhirline forget`` and ``fhirline keys rewrap``, killed at random moments and run again, end as if nobody had."""

import os
import random
import signal
import subprocess
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import orjson
import pytest

from fhirline.config.own_command import own_command
from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.keys.rewrap import rewrap
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka import log_scanner
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.encryption.key_ring import ERASED as MARKER
from fhirline.streams.kafka.encryption.secrets import wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition, from_confluent
from fhirline.streams.observe import logs
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import ERASED, KEYS, dead_letter_topic, enriched_topic, raw_topic
from tests.streams.operate.test_forget_encrypted_report import Sealed, encrypting
from tests.streams.operate.test_keys import AT, last_values, with_secrets
from tests.streams.operate.test_lift_encrypted import send, survey
from tests.support import cli
from tests.support.encryption import ENCRYPTION, ROTATED, secrets_of
from tests.support.erasure import SECRET
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import load_on
from tests.support.waiting import LIMIT
from tests.support.workload import produce

KILLS = int(os.environ.get("KEYS_KILLS") or 3)
SEED = int(os.environ.get("KEYS_SEED") or 1)
DATA_KEYS = 16_000


class Killed:
    """Starts a command and kills it once it has written some records, at a random number of them."""

    def __init__(self, settings: Settings, topics: Iterable[str], arguments: tuple[str, ...], **more: str) -> None:
        self._settings = settings
        self._arguments = arguments
        self.environment = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **more}
        self._rng = random.Random(SEED)
        self._scanner = LogScanner(settings)
        self._ends: dict[TopicPartition, int | None] = dict.fromkeys(self._scanner.topic_partitions(topics))

    def close(self) -> None:
        self._scanner.close()

    def _written(self) -> int:
        """Read on, and count the records."""
        count = 0
        for message in self._scanner.stored(self._ends):
            self._ends[TopicPartition(message.topic() or "", message.partition() or 0)] = (message.offset() or 0) + 1
            count += 1
        return count

    def kill(self, most: int) -> int | None:
        """Kill a run after up to ``most`` of its records, or a moment later; None if it ended before."""
        self._written()
        process = subprocess.Popen(
            own_command(*self._arguments),
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wanted, written = self._rng.randrange(most + 1), 0
        while written < wanted and process.poll() is None:
            written += self._written()
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._rng.uniform(0, 0.02) if wanted else self._rng.uniform(0, 2))
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT)
        return None if ended else written + self._written()

    def finish(self) -> str:
        done = cli.run(*self._arguments, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


def readable(settings: Settings, topics: Iterable[str]) -> list[ConsumerRecord]:
    with Scanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]


@pytest.mark.long
def test_an_erasure_is_complete_and_nothing_of_others_is_lost(
    own_broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The patient has a survey, whose key only the patient's events lead to."""
    load = encrypting(load_on(own_broker))
    sealed = Sealed(load)
    send(load, survey(load))
    topics = (*map(raw_topic, VENDORS), enriched_topic("infermedica"), *map(dead_letter_topic, VENDORS))
    before = readable(load.settings, topics)
    others = [sealed.load.patient(vendor) for vendor in ("mediquo", "altibbi")]
    patients = [Compartment.of("infermedica", load.tenant, "p-1"), *others]
    kills = []
    for patient in patients:
        with closing(Erasure(load.settings, patient)) as erasure:
            mine = erasure.find()
        assert mine.raw_records
        named = ("--vendor", patient.vendor, "--tenant", patient.tenant, "--patient", patient.key)
        command = ("forget", *named, "--yes", "--reason", "test", "--settle", "0")
        secrets = {"FHIRLINE_ERASURE_KEY": SECRET, "FHIRLINE_ENCRYPTION": ENCRYPTION}
        with closing(Killed(load.settings, (ERASED, KEYS), command, **secrets)) as killed:
            writes = 4 * len(mine.compartments)  # block, first marker, marker and tombstone of a data key
            kills += [killed.kill(writes - 1) for _ in range(KILLS)]
            killed.finish()
        before = [record for record in before if str(record.position) not in mine.origins]
        left = readable(load.settings, topics)
        assert not [record for record in left if str(record.position) in mine.origins], "an event can be read"
        lost = {record.position for record in before if not record.topic.startswith("dead-letter.")}
        assert lost <= {record.position for record in left}, "another patient's event cannot be read"
        values = last_values(load.settings)
        for number, index in mine.sealed:
            own = {key: value for key, value in values.items() if key.startswith(index.encode())}
            assert not [key for key, value in own.items() if wrapped_by(value)], number
            assert f"{index}/{MARKER}".encode() in own
            assert [key for key in own if key.endswith(f"/{DESTROYED}".encode())]
        with closing(Erasure(load.settings, patient)) as erasure:
            again = erasure.find()
            assert (again.live, again.state, again.raw_records) == ({}, set(), 0)
    with capsys.disabled():
        print(f"\nrecords that a killed erasure had written: {kills}")
    assert [count for count in kills if count is not None], "no kill came before the end"


@pytest.mark.long
def test_a_rewrap_leaves_every_living_key_and_none_that_is_destroyed(
    own_broker: RunningBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, rotated = with_secrets(own_broker, ENCRYPTION), with_secrets(own_broker, ROTATED)
    secrets, count = secrets_of(old), 2  # partitions, so that a batch takes long
    keys = [DataKey.new(secrets, secrets.index(f"mediquo|acme|{n}"), n % count) for n in range(DATA_KEYS)]
    gone, living = keys[: DATA_KEYS // 10], keys[DATA_KEYS // 10 :]
    produce(old, [key.record(n % count) for n, key in enumerate(keys)])
    produce(old, [ProducerRecord(KEYS, f"{key.index}/{MARKER}".encode(), AT, n % count) for n, key in enumerate(gone)])
    file = tmp_path / "encryption"
    file.write_text(ROTATED)
    file.chmod(0o600)
    command = ("keys", "rewrap", "--yes")
    with closing(Killed(rotated, [KEYS], command, FHIRLINE_ENCRYPTION_FILE=str(file))) as killed:
        kills = [killed.kill(DATA_KEYS // KILLS // 2) for _ in range(KILLS)]
        killed.finish()
        listed = orjson.loads(cli.run("keys", "list", "--json", env=killed.environment).stdout)
    found, current = last_values(rotated), secrets_of(rotated)
    assert {name.decode() for name, value in found.items() if wrapped_by(value)} == {key.name for key in living}
    for key in living:
        value = found[key.name.encode()]
        assert (wrapped_by(value), current.unwrap(key.name, value)) == ("2026-11", key.key)
    assert {f"{key.name}/{DESTROYED}".encode() for key in gone} <= found.keys()
    assert [(row["kek"], row["living"], row["destroyed"]) for row in listed["keks"]] == [
        ("2026-11", len(living), 0),
        ("2026-05", 0, 0),
    ]
    with capsys.disabled():
        print(f"\nrecords that a killed rewrap had written: {kills}")
    assert [count for count in kills if count], "no kill came while it wrote"


def test_a_rewrap_from_which_kafka_goes_away_does_not_say_that_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(encryption=ENCRYPTION)
        secrets = secrets_of(settings)
        produce(settings, [DataKey.new(secrets, secrets.index("mediquo|acme|1"), 0).record(0)])
        publish = RecordPublisher.publish

        def before_the_end(self: RecordPublisher, records: Iterable[ProducerRecord]) -> object:
            done = publish(self, records)
            broker.stop()
            return done

        monkeypatch.setattr(RecordPublisher, "publish", before_the_end)
        monkeypatch.setattr(log_scanner, "SILENCE_SECONDS", 2.0)  # until it is known that Kafka is away
        monkeypatch.setenv("FHIRLINE_BOOTSTRAP", broker.bootstrap)
        monkeypatch.setenv("FHIRLINE_ENCRYPTION", ROTATED)
        monkeypatch.setattr(logs, "configure_logging", lambda settings: None)  # later tests log, too
        with pytest.raises(CommandFailed, match="run this again") as failed:
            rewrap(yes=True)
    assert failed.value.exit_code == 1
