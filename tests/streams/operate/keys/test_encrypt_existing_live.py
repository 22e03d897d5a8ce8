"""Encryption of what exists on Apache Kafka: beside traffic and a worker, killed, with removal, and a replay after."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.headers import COPY_OF, RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition
from fhirline.streams.operate.replay.offset_ranges import offset_ranges
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.trace.find import Tracer
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic
from tests.streams.operate.keys.plain import LETTER_TOPICS, RAW_TOPICS, STATE_TOPICS, opened, stored
from tests.support.encryption import ENCRYPTION, Sealer
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.processes import Command, command
from tests.support.replaying import environment, replay, unchanged
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

pytestmark = pytest.mark.long

PARTITIONS = 2
SET = {"FHIRLINE_ENCRYPTION": ENCRYPTION, "FHIRLINE_PARTITIONS": str(PARTITIONS)}


@pytest.fixture
def settings() -> Iterator[Settings]:
    with apache() as kafka:
        create_topics(kafka.bootstrap, partitions=PARTITIONS)
        more = {"session_timeout": 6, "partitions": PARTITIONS, "encryption": ENCRYPTION}
        yield settings_for(kafka.bootstrap, **more)


@contextmanager
def traffic(settings: Settings) -> Iterator[list[ConsumerRecord]]:
    """Write encrypted events, as a gateway does, until the context ends. Yields what was written."""
    sealer, stopping, written = Sealer(settings), threading.Event(), list[ConsumerRecord]()

    def send() -> None:
        for event in events(2_000, seed=22):
            if stopping.wait(0.1):
                return
            known = len(sealer.made)
            raw = sealer(event)
            produce(settings, sealer.made[known:])
            written.extend(produce(settings, [raw]))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield written
    finally:
        stopping.set()
        thread.join()


@contextmanager
def encrypting(settings: Settings, folder: Path) -> Iterator[Command]:
    with command("keys", "encrypt-existing", "--yes", environ=environment(settings, folder, **SET)) as process:
        yield process


def copied(settings: Settings, *topics: str) -> bool:
    return any(header(record.headers, COPY_OF) for record in stored(settings, *topics))


def removed(settings: Settings, *topics: str) -> bool:
    with LogScanner(settings) as scanner:
        return any(scanner.first(*place) for place in scanner.topic_partitions(topics))


def test_beside_traffic_and_killed_nothing_is_lost_and_nothing_stays_plain(settings: Settings, tmp_path: Path) -> None:
    plain = produce(settings, events(120, seed=21), in_clear=True)
    expected = undisturbed(settings, plain)
    store = Store(settings)
    moments: list[Callable[[], bool]] = [
        lambda: copied(settings, *RAW_TOPICS),
        lambda: copied(settings, *LETTER_TOPICS),
        lambda: any(is_sealed(record) for record in stored(settings, *STATE_TOPICS)),
        lambda: removed(settings, *RAW_TOPICS),
    ]
    with running(settings, **SET) as worker:
        wait_until_as(expected, store, worker)
        with traffic(settings) as written:
            wait_until(lambda: len(written) > 5, "there is no traffic")
            for reached in moments:
                with encrypting(settings, tmp_path) as process:
                    wait_until(lambda: reached() or not process.running, "the command makes no progress")  # noqa: B023
                    process.kill()
            with encrypting(settings, tmp_path) as process:
                assert process.wait() == 0, process.output
        everything = sorted([*plain, *written], key=lambda raw: raw.position)
        expected = undisturbed(settings, everything)
        wait_until_as(expected, store, worker)
        assert worker.stop() == 0
    nothing_plain(settings, plain)
    traceable(settings)
    ranges = offset_ranges(settings, Selection(VENDORS))
    assert any(item.start > 0 for item in ranges)
    assert all(item.complete for item in ranges), "a replay does not build state from nothing"
    unchanged(replay(settings, tmp_path, **SET))
    store.close()


def nothing_plain(settings: Settings, plain: list[ConsumerRecord]) -> None:
    """Assert that all records but Practitioners are encrypted, and have no byte of a patient's key."""
    assert removed(settings, *RAW_TOPICS)
    assert removed(settings, *LETTER_TOPICS)
    patients = {raw.key for raw in plain if raw.key}
    for record in stored(settings, *RAW_TOPICS, *LETTER_TOPICS):
        assert is_sealed(record), record.position
        assert not any(patient in (record.key or b"") + (record.value or b"") for patient in patients)
    last = {(record.topic_partition, record.key): record for record in stored(settings, *STATE_TOPICS)}
    for record in last.values():
        if (record.key or b"").startswith(b"[") and not (record.key or b"").startswith(b'[""'):
            assert record.value is None, record.position


def traceable(settings: Settings) -> None:
    """Resources name raw records that are there. What a worker writes once for all events may name a copied one."""
    positions = {record.position for record in opened(settings, *RAW_TOPICS)}
    newest = {record.key: record for record in opened(settings, *map(canonical_topic, RESOURCE_TYPES))}
    gone = [record for record in newest.values() if RecordPosition.parse(header(record.headers, RAW)) not in positions]
    types = {(record.key or b"").decode().partition("/")[0] for record in gone}
    assert types
    assert not types & {"Patient", "Encounter", "Observation", "Provenance", "DocumentReference"}
    with Scanner(settings) as scanner:
        tracer = Tracer(settings, scanner)
        assert all(tracer.raw(header(record.headers, RAW) or "") for record in gone)
