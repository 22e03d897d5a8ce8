"""Erasure with encryption on: what stays on the topics can be read no more, and nothing else is lost."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.secrets import WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.headers import EVENT_TYPE, header, headers
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.report import Report
from fhirline.streams.operate.keys import secrets_file
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import KEYS, dead_letter_topic, raw_topic, state_topic
from fhirline.topics.partition import partition_for
from tests.streams.step2_consume.test_worker import running, wait_until_as
from tests.support import cli
from tests.support.encryption import ENCRYPTION, ROTATED, Sealer, secrets_of
from tests.support.erasure import RECEIVED_AT, SECRET, busiest, of
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

VENDOR = "altibbi"
KEPT = (raw_topic(VENDOR), dead_letter_topic(VENDOR), state_topic(VENDOR))
OWN = {"FHIRLINE_ERASURE_KEY": SECRET, "FHIRLINE_ENCRYPTION": ENCRYPTION}


@dataclass
class Deployment:
    """Events of one vendor that a worker has mapped, and the patient with the most of them."""

    settings: Settings
    raws: list[ConsumerRecord]
    patient: Compartment

    @property
    def index(self) -> str:
        return secrets_of(self.settings).index(self.patient.partition_key)

    def erase(self) -> Report:
        erasure = Erasure(self.settings, self.patient)
        try:
            return erasure.erase(erasure.find(), 0)
        finally:
            erasure.close()

    def stored(self, *topics: str) -> list[ConsumerRecord]:
        with LogScanner(self.settings) as scanner:
            return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]

    def readable(self, *topics: str) -> list[ConsumerRecord]:
        with Scanner(self.settings) as scanner:
            return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]

    def mine(self, records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the patient's records among those that were opened."""
        owners = (self.patient.raw_key.encode(), orjson.dumps([self.patient.raw_key])[:-1] + b",")
        return [record for record in records if (record.key or b"").startswith(owners) and record.value is not None]

    def event(self, number: int) -> ProducerRecord:
        """Make another event of the patient."""
        raw = next(raw for raw in self.raws if of(raw, [self.patient]))
        body = {**orjson.loads(raw.value or b""), "later": number}
        return raw_record(
            VENDOR, self.patient.tenant, orjson.dumps(body), RECEIVED_AT, header(raw.headers, EVENT_TYPE), 64
        )


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap, session_timeout=6, erasure_key=SECRET, encryption=ENCRYPTION)
        raws = produce(settings, [event for event in events(120, seed=13) if event.topic == raw_topic(VENDOR)])
        store = Store(settings)
        with running(settings, **OWN) as worker:
            wait_until_as(undisturbed(settings, raws), store, worker)
        store.close()
        yield Deployment(settings, raws, busiest(raws)[VENDOR])


def check_erased(deployment: Deployment, readable: list[ConsumerRecord]) -> None:
    """Check that nothing of the patient can be read, and everything else still can. ``readable``: what could before."""
    index = deployment.index.encode()
    others = [record for record in readable if record not in deployment.mine(readable)]
    found = deployment.readable(*KEPT)
    assert deployment.mine(found) == []
    positions = {record.position for record in found}
    assert {record.position for record in others} <= positions
    keys = {record.key: record.value for record in deployment.stored(KEYS) if (record.key or b"").startswith(index)}
    living = [key for key, value in keys.items() if (key or b"").count(b"/") == 1 and value is not None]
    assert living == [index + b"/erased"]
    assert sum((key or b"").endswith(b"/destroyed") and value is not None for key, value in keys.items()) == 1
    state = {record.key: record.value for record in deployment.stored(KEPT[2]) if (record.key or b"").startswith(index)}
    assert state
    assert set(state.values()) == {None}


def test_what_is_kept_of_an_erased_patient_can_be_read_no_more(deployment: Deployment) -> None:
    before = deployment.readable(*KEPT)
    mine = deployment.mine(before)
    assert {record.topic for record in mine} >= {raw_topic(VENDOR), state_topic(VENDOR)}
    report = deployment.erase()
    assert (report.complete, report.data_keys, report.data_keys_wrapped_by) == (True, 1, ["2026-05"])
    assert not [left for left in report.remaining if left.topic == raw_topic(VENDOR)], "nobody can read them"
    check_erased(deployment, before)
    again = deployment.erase()
    assert (again.complete, again.data_keys, again.tombstones.total(), again.state) == (True, 0, 0, 0)
    check_erased(deployment, before)


@pytest.mark.long
@pytest.mark.parametrize("crash_at", range(7))
def test_another_run_destroys_the_keys_after_a_crash(
    deployment: Deployment, crash_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes before each of the writes in turn: block, Bundle, tombstones, markers, keys."""
    before, calls, publish = deployment.readable(*KEPT), count(), RecordPublisher.publish

    def crashing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if next(calls) == crash_at:
            raise PublishFailed("crash")
        return publish(self, records, delivered)

    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", crashing)
        with pytest.raises(PublishFailed, match="crash"):
            deployment.erase()
    assert deployment.erase().complete
    check_erased(deployment, before)


@pytest.mark.long
def test_an_event_that_comes_later_is_passed_over_and_after_a_lift_mapped(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is sealed with a key that a gateway made after the erasure."""
    deployment.erase()
    settings, sealer = deployment.settings, Sealer(deployment.settings)
    late = sealer(deployment.event(1))
    produce(settings, [*sealer.made, late])
    assert deployment.mine(deployment.readable(raw_topic(VENDOR))) == []
    with running(settings, **OWN) as worker:
        wait_until(lambda: "erased patient passed over" in "\n".join(worker.printed), "the event was not read")
        environment = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **OWN}
        named = ("--vendor", VENDOR, "--tenant", deployment.patient.tenant, "--patient", deployment.patient.key)
        refused = cli.run("forget", *named, "--lift", "--yes", "--reason", "returns", env=environment)
        assert refused.returncode == 2
        dry = cli.run("forget", *named, "--lift", "--dry-run", env=environment)
        assert (dry.returncode, dry.stderr) == (2, refused.stderr)
        assert "a gateway may use a destroyed data key until 20" in refused.stderr
        assert "Z, and events" in refused.stderr
        monkeypatch.setattr("fhirline.streams.operate.erasure.keys.USED_SECONDS", -1e6)  # an hour and more later
        erasure = Erasure(settings, deployment.patient)
        assert erasure.in_use_until() is None
        assert erasure.lift(erasure.find()) == 1
        erasure.close()
        newest = Sealer(settings)
        back = newest(deployment.event(2))
        [raw] = [raw for raw in produce(settings, [*newest.made, back]) if raw.topic != KEYS]
        expected = undisturbed(settings, [raw])
        store = Store(settings)
        wait_until_as_far(expected, store)
        store.close()


def wait_until_as_far(expected: dict[str, bytes], store: Store) -> None:
    """Wait until the store has every key that is expected."""

    def there() -> bool:
        store.read()
        return all(store.values.get(name) for name in expected if name.startswith("fhir.r4.Provenance"))

    wait_until(there, "the event was not mapped")


@pytest.mark.long
def test_rotated_keys_open_what_was_there_and_the_old_one_completes_the_erasure(
    deployment: Deployment, tmp_path: Path
) -> None:
    """``fhirline keys``, as the runbook has it. What was wrapped for the patient can be unwrapped by nothing then."""
    settings, secrets = deployment.settings, tmp_path / "encryption"
    secrets.write_text(ENCRYPTION)
    secrets.chmod(0o600)
    environment = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, "FHIRLINE_ENCRYPTION_FILE": str(secrets)}

    def keys(*arguments: str, code: int = 0) -> str:
        done = cli.run("keys", *arguments, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    before = deployment.readable(*KEPT)
    deployment.erase()
    [wrapped] = [
        (record.key, record.value)
        for record in deployment.stored(KEYS)
        if (record.key or b"").startswith(deployment.index.encode()) and wrapped_by(record.value or b"")
    ]
    keys("rotate", "--kek", "2026-11", "--yes")
    keys("rotate", "--activate", "2026-11", "--yes")
    assert "would be lost" in keys("destroy-old", "--yes", code=1)
    living = orjson.loads(keys("list", "--json"))["keks"]
    assert [(row["kek"], row["use"]) for row in living] == [("2026-11", "wraps"), ("2026-05", "unwraps")]
    assert living[1]["living"] > 5
    assert "Nothing was done" in keys("rewrap", "--dry-run")
    copy = "Copy normalizer.keys into its backups before `fhirline keys destroy-old`"
    rewrapped = keys("rewrap", "--yes", "--as", "Ana")
    assert f"{living[1]['living']} data keys wrapped with 2026-11, 0 destroyed" in rewrapped
    assert copy in rewrapped
    assert copy not in keys("rewrap", "--yes"), "nothing was wrapped, so no earlier copy became older"
    assert "within 24 hours" in keys("destroy-old", "--yes", code=1)
    assert "removed: 2026-05" in keys("destroy-old", "--yes", "--unused-for", "0")
    assert "key-encryption key 2026-05 is missing" not in keys("list")
    rotated = Deployment(
        settings.model_copy(update={"encryption": None, "encryption_file": secrets}),
        deployment.raws,
        deployment.patient,
    )
    check_erased(rotated, before)
    with pytest.raises(WrappingKeyMissing):
        secrets_of(rotated.settings).unwrap((wrapped[0] or b"").decode(), wrapped[1] or b"")


@pytest.mark.long
def test_a_copy_of_another_producers_record_goes_with_its_patient(deployment: Deployment) -> None:
    """Outside the patient's partition `keys encrypt-existing` gives it a data key that no patient's key leads to."""
    settings, secrets = deployment.settings, secrets_of(deployment.settings)
    own = partition_for(deployment.patient.raw_key, settings.partitions)
    elsewhere = (own + 1) % settings.partitions
    key = DataKey.new(secrets, secrets.index(f"{VENDOR}|acme|record/raw.{VENDOR}/0/0"), elsewhere)
    event = deployment.event(9)
    copy = ProducerRecord(event.topic, b"n", event.value, elsewhere, headers(tenant="acme"), 1, data_key=key)
    produce(settings, [key.record(elsewhere)])
    [raw] = produce(settings, [copy])
    store = Store(settings)
    with running(settings, **OWN):
        wait_until_as_far(undisturbed(settings, [raw]), store)
    store.close()
    report = deployment.erase()
    assert (report.complete, report.data_keys) == (True, 2)
    assert raw.position not in {record.position for record in deployment.readable(*KEPT)}
    state = {record.key: record.value for record in deployment.stored(KEPT[2]) if record.partition == elsewhere}
    assert not [name for name, value in state.items() if (name or b"").startswith(key.index.encode()) and value]


@pytest.mark.long
def test_a_key_that_is_wrapped_again_after_its_tombstone_stays_destroyed(deployment: Deployment) -> None:
    """A rewrap that had read the key before the erasure writes it after."""
    secrets = secrets_of(deployment.settings)
    [key] = [key for key in deployment.stored(KEYS) if (key.key or b"").startswith(deployment.index.encode())]
    before = deployment.readable(*KEPT)
    deployment.erase()
    produce(deployment.settings, [ProducerRecord(KEYS, key.key or b"", key.value, key.partition)])
    assert deployment.mine(deployment.readable(*KEPT)) == []
    data_keys = DataKeys(deployment.settings, secrets)
    assert data_keys.rewrap().removed == 1
    data_keys.close()
    check_erased(deployment, before)


@pytest.mark.long
def test_a_rewrap_that_was_interrupted_is_finished_by_another_run(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = deployment.settings.model_copy(update={"encryption": SecretStr(ROTATED)})
    before, publish, calls = deployment.readable(*KEPT), RecordPublisher.publish, count()
    monkeypatch.setattr("fhirline.streams.operate.keys.data_keys.BATCH", 3)

    written: list[ProducerRecord] = []

    def interrupted(self: RecordPublisher, records: Iterable[ProducerRecord], *more: object) -> object:
        if (batch := [*records]) and next(calls) == 2:
            raise PublishFailed("interrupted")
        written.extend(batch)
        return publish(self, batch)

    data_keys = DataKeys(rotated, secrets_of(rotated))
    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", interrupted)
        with pytest.raises(PublishFailed, match="interrupted"):
            data_keys.rewrap()
    some = data_keys.count().living
    assert (some["2026-11"], some["2026-05"] > 0) == (len(written), True)
    assert len(written) >= 2
    assert data_keys.rewrap().wrapped == some["2026-05"]
    assert data_keys.count().living.keys() == {"2026-11"}
    assert data_keys.rewrap().wrapped == 0
    data_keys.close()
    after = replace(deployment, settings=rotated).readable(*KEPT)
    assert {record.position: record for record in after} == {record.position: record for record in before}


def test_the_file_of_secrets_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "encryption"
    made = cli.run("keys", "new", "--file", path, "--kek", "2026-11", env=dict(os.environ))
    assert made.returncode == 0, made.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    first = secrets_file.read(path)
    assert cli.run("keys", "new", "--file", path, env=dict(os.environ)).returncode == 2
    assert secrets_file.read(path) == first
    for arguments in (("--kek", "2026-11"), ("--kek", "index"), ("--activate", "2027-01")):
        refused = cli.run("keys", "rotate", "--file", path, "--yes", *arguments, env=dict(os.environ))
        assert refused.returncode == 2, arguments
    assert secrets_file.read(path) == first
    printed = cli.run("keys", "new", env=dict(os.environ))
    assert printed.stdout.startswith("index:")
    assert f"{datetime.now(UTC):%Y-}" in printed.stdout
    assert secrets_file.add_key(path, "2027-01").current == "2026-11"
    assert secrets_file.activate(path, "2027-01").text == path.read_text()
    assert [*secrets_file.remove(path, {"2026-11"}).keks] == ["2027-01"]
    assert [item.name for item in tmp_path.iterdir()] == ["encryption"]
