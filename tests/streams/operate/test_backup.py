"""The runbook's backup and restore, with encrypted events: with their keys everything is made again, without them it
is said which key is missing, and nothing is lost meanwhile.
"""

import re
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.topics.declared import DEAD_LETTER_STATUS, ERASED, KEYS, declared, raw_topic
from tests.support import cli
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.erasure import busiest, canonical_names, of
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.last_records import ALL, held, live_names
from tests.support.paths import DOCS
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

BACKED_UP = ("raw.", "dead-letter.", "normalizer.state.", KEYS, ERASED, DEAD_LETTER_STATUS)
"""What the runbook's table names, and the dead letters and the state."""

RUNBOOK = (DOCS / "operations.md").read_text("utf-8")
SECRETS = {"FHIRLINE_ENCRYPTION": ENCRYPTION}
OTHER = {"FHIRLINE_ENCRYPTION": ENCRYPTION.replace("2026-05", "2026-06")}
"""The same index secret, and another key-encryption key."""


ERASURE_KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def clusters() -> Iterator[tuple[Settings, Settings]]:
    """The settings of two clusters with topics."""
    with EmbeddedBroker() as first, EmbeddedBroker() as second:
        for broker in (first, second):
            create_topics(broker.bootstrap)
        yield (
            RunningBroker("embedded", first.bootstrap).settings(session_timeout=6, encryption=ENCRYPTION),
            RunningBroker("embedded", second.bootstrap).settings(session_timeout=6, encryption=ENCRYPTION),
        )


def backed_up(settings: Settings) -> list[ConsumerRecord]:
    """Read the topics of a backup as they are stored."""
    topics = [topic.name for topic in declared(settings) if topic.name.startswith(BACKED_UP)]
    with LogScanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


def restore(settings: Settings, records: list[ConsumerRecord]) -> None:
    """Write them into the same partitions, with keys, values, headers and timestamps."""
    produce(
        settings,
        (
            ProducerRecord(
                record.topic, record.key or b"", record.value, record.partition, record.headers, record.timestamp_ms
            )
            for record in records
        ),
    )


def letters(records: list[ConsumerRecord]) -> int:
    return sum(record.topic.startswith("dead-letter.") for record in records)


def told(record: ConsumerRecord) -> tuple[object, ...]:
    """Return what a restored record shares with the one that was backed up. The order of headers may differ."""
    return record.topic, record.partition, record.key, record.value, sorted(record.headers), record.timestamp_ms


@pytest.mark.long
def test_a_backup_is_restored_with_its_keys_and_not_without(clusters: tuple[Settings, Settings]) -> None:
    old, new = clusters
    keys, raws = sealed(old, events(80, seed=11))
    produce(old, keys)
    written = produce(old, raws)
    expected = undisturbed(old, written)
    store = Store(old)
    with running(old, **SECRETS) as worker:
        wait_until_as(expected, store, worker)
        assert worker.stop() == 0, worker.output
    store.close()
    backup = backed_up(old)
    assert {record.topic.partition(".")[0] for record in backup} == {"raw", "dead-letter", "normalizer"}
    restore(new, backup)
    assert sorted(map(told, backed_up(new)), key=repr) == sorted(map(told, backup), key=repr)

    with running(new, **OTHER) as worker:
        wait_until(lambda: not worker.running, "the worker goes on without the key")
        assert worker.exit_code == UNCOMMITTED, worker.output
    line = "the key-encryption key 2026-05 is missing"
    assert line in worker.output
    assert line.replace("2026-05", "…") in RUNBOOK
    assert letters(backed_up(new)) == letters(backup), "an event became a dead letter"

    store = Store(new)
    with running(new, **SECRETS) as worker:
        wait_until_as(expected, store, worker)
        assert worker.stop() == 0, worker.output
    store.close()
    environment = {"FHIRLINE_BOOTSTRAP": new.bootstrap, "FHIRLINE_GROUP": new.group}
    compared = cli.run("replay", "--jobs", "1", env={**environment, **SECRETS})
    assert f"{len(written)} events mapped" in compared.stdout, compared.stderr
    assert re.search(r"^all\t[1-9][0-9]*\t0\t0\t0\t0\t0$", compared.stdout, re.MULTILINE), compared.stdout
    without = cli.run("replay", "--jobs", "1", env={**environment, **OTHER})
    assert without.returncode == 2, without.stdout + without.stderr
    assert line in without.stderr


@pytest.mark.long
@pytest.mark.parametrize("remedy", ["restored", "given up"])
def test_a_backup_without_a_data_key(clusters: tuple[Settings, Settings], remedy: str) -> None:
    """The worker names event and key, and commits nothing. It goes on when the key is restored, or marked as lost."""
    old, new = clusters
    keys, raws = sealed(old, (event for event in events(60, seed=9) if event.topic == raw_topic("altibbi")))
    produce(old, keys)
    written = produce(old, raws)
    backup = backed_up(old)
    lost = keys[0]
    restore(new, [record for record in backup if record.key != lost.key])
    with running(new, **SECRETS) as worker:
        wait_until(lambda: not worker.running, "the worker goes on without the key")
        assert worker.exit_code == UNCOMMITTED, worker.output
    index, _, number = lost.key.decode().partition("/")
    line = f"normalizer.keys/{lost.partition} does not have the data key {number}"
    assert line in worker.output
    assert line.replace(f"/{lost.partition} ", "/3 ").replace(number, "…") in RUNBOOK
    if remedy == "restored":
        restore(new, [record for record in backup if record.key == lost.key])
        readable = written
    else:
        assert "<index>/<key-id>/destroyed" in RUNBOOK
        marker = f"{index}/{number}/{DESTROYED}".encode()
        produce(new, [ProducerRecord(KEYS, marker, b"2026-11-27T00:00:00Z", lost.partition)])
        patients = {raw.key for raw in raws if raw.data_key and raw.data_key.number == number}
        readable = [raw for raw in written if raw.key not in patients]
        assert 0 < len(readable) < len(written)
    store = Store(new)
    with running(new, **SECRETS) as worker:
        wait_until_as(undisturbed(old, readable), store, worker)
    store.close()


@pytest.mark.long
def test_who_was_erased_after_the_backup_stays_unreadable_once_forget_has_run_again(
    clusters: tuple[Settings, Settings],
) -> None:
    """As the runbook says. Also where the older data keys are restored once more after that."""
    assert "Run\n   `fhirline forget` again for every patient who was erased after the backup" in RUNBOOK
    old, new = (settings.model_copy(update={"erasure_key": SecretStr(ERASURE_KEY)}) for settings in clusters)
    keys, raws = sealed(old, events(80, seed=11))
    produce(old, keys)
    written = produce(old, raws)
    backup = backed_up(old)
    patient = busiest(written)["altibbi"]
    named = ("--vendor", patient.vendor, "--tenant", patient.tenant, "--patient", patient.key)
    secrets = {**SECRETS, "FHIRLINE_ERASURE_KEY": ERASURE_KEY}

    def forget(settings: Settings) -> str:
        environment = {**secrets, "FHIRLINE_BOOTSTRAP": settings.bootstrap}
        done = cli.run("forget", *named, "--yes", "--reason", "test", "--settle", "0", env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def readable(settings: Settings) -> set[str]:
        with Scanner(settings) as scanner:
            places = scanner.topic_partitions([raw_topic(vendor) for vendor in VENDORS])
            return {str(from_confluent(item).position) for item in scanner.read(dict.fromkeys(places))}

    mine = {str(raw.position) for raw in written if of(raw, [patient])}
    others = {str(raw.position) for raw in written} - mine
    assert mine
    forget(old)
    assert readable(old) == others
    restore(new, backup)
    assert readable(new) == others | mine, "the older data keys open what was erased"
    assert "1 destroyed" in forget(new)
    assert readable(new) == others
    restore(new, [record for record in backup if record.topic == KEYS])
    assert readable(new) == others, "a marker wins over a value that comes later"
    assert "1 destroyed" in forget(new)
    store = Store(new)
    with running(new, **secrets) as worker:
        wait_until_as(undisturbed(new, [raw for raw in written if not of(raw, [patient])]), store, worker)
        assert worker.running
    store.close()
    assert not live_names(held(new, *ALL)) & canonical_names(new, [raw for raw in written if of(raw, [patient])])
