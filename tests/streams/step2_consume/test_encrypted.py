"""A worker on sealed events: it makes what it makes of plain ones, and seals what it keeps."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, ERASED
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.headers import ERROR_CODE, KEY_ID, RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.step1_receive.patient_keys import patient_of
from fhirline.streams.step2_consume.faust.offset_gaps import read_gaps
from fhirline.topics.declared import KEYS, dead_letter_topic, raw_topic, state_topic
from tests.support.encryption import ENCRYPTION, INDEX, Sealer, sealed
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

SET = {"FHIRLINE_ENCRYPTION": ENCRYPTION}


@pytest.fixture
def settings() -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, encryption=ENCRYPTION)


def stored(settings: Settings, *topics: str) -> list[ConsumerRecord]:
    """Return all records of topics as they lie there."""
    with LogScanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


def opened(settings: Settings, *topics: str) -> list[ConsumerRecord]:
    with Scanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]


def test_sealed_events_make_the_same_resources_and_what_is_kept_is_sealed(settings: Settings) -> None:
    made = [*events(120, seed=11)]
    keys, raws = sealed(settings, made)
    produce(settings, keys)
    written = produce(settings, raws)
    expected = undisturbed(settings, written)
    store = Store(settings)
    with running(settings, FHIRLINE_BATCH_SIZE="20", **SET) as worker:
        wait_until_as(expected, store, worker)
        worker.kill()
    later = produce(settings, raws[:30])  # mapped over state that is restored from sealed entries
    expected = undisturbed(settings, sorted([*written, *later], key=lambda raw: raw.position))
    with running(settings, **SET) as worker:
        wait_until_as(expected, store, worker)
    store.close()
    internal = [
        *map(raw_topic, VENDORS),
        *map(dead_letter_topic, VENDORS),
        *map(state_topic, VENDORS),
    ]
    kept = stored(settings, *internal)
    letters = [record for record in kept if record.topic.startswith("dead-letter.")]
    assert letters
    assert all(header(record.headers, KEY_ID) for record in letters)
    patients = {record.key or b"-" for record in written}
    assert len(patients) > 20
    for record in kept:
        own = (record.key or b"") + (record.value or b"")
        practitioner = (record.key or b"").startswith(b'["","Practitioner/')
        assert practitioner or header(record.headers, KEY_ID), record.position
        for patient in patients:
            assert patient not in own, record.position
    plain = opened(settings, *map(raw_topic, VENDORS))
    assert [(record.key, record.value) for record in plain[: len(written)] if record.topic == raw_topic("mediquo")]
    assert sorted((str(raw.position), raw.key, raw.value) for raw in (*written, *later)) == sorted(
        (str(record.position), record.key, record.value) for record in plain
    )


@pytest.mark.long
def test_a_changed_record_is_a_letter_and_a_destroyed_key_an_erased_patient(settings: Settings) -> None:
    sealer = Sealer(settings)
    of_mediquo = [event for event in events(200, seed=5) if event.topic == raw_topic("mediquo")]
    patients = [*dict.fromkeys(event.key for event in of_mediquo)]
    one, two, three = (sealer(next(event for event in of_mediquo if event.key == key)) for key in patients[:3])
    assert one.data_key
    assert two.data_key
    assert three.data_key
    as_stored = one.data_key.seal(one)
    hostile = {
        **changed_forms(as_stored, two.data_key),
        "key": replace(as_stored, key=two.data_key.index.encode()),
        "partition": replace(as_stored, partition=((as_stored.partition or 0) + 1) % settings.partitions),
    }
    destroyed = f"{three.data_key.name}/{DESTROYED}".encode()
    gone = ProducerRecord(KEYS, destroyed, b"2026-11-27T00:00:00Z", three.partition)
    produce(settings, [*sealer.made, gone])
    changed = produce(settings, hostile.values())
    sound = produce(settings, [two])
    passed_over = produce(settings, [three])
    expected = undisturbed(settings, sound)
    store = Store(settings)
    with running(settings, **SET) as worker:
        wait_until_as(expected, store, worker)
        wait_until(
            lambda: "erased patient passed over" in "\n".join(worker.printed), "the erased patient's event was not read"
        )
        wait_until(lambda: len(stored(settings, dead_letter_topic("mediquo"))) >= len(hostile), "letters are missing")
        assert worker.running
    store.close()
    letters = stored(settings, dead_letter_topic("mediquo"))
    codes = {header(letter.headers, RAW): header(letter.headers, ERROR_CODE) for letter in letters}
    assert {code for raw, code in codes.items() if raw in {str(raw.position) for raw in changed}} == {
        "cannot-be-opened"
    }
    assert len(letters) == len(hostile) + sum(str(raw.position) in codes for raw in sound)
    assert str(passed_over[0].position) not in codes
    assert all(letter.value is None for letter in letters if header(letter.headers, ERROR_CODE) == "cannot-be-opened")


def changed_forms(as_stored: ProducerRecord, other: DataKey) -> dict[str, ProducerRecord]:
    """Return forms of a sealed record that nobody can open, and that still have its index."""
    value, before = as_stored.value or b"", as_stored.headers[:-1]
    return {
        "bytes": replace(as_stored, value=value[:-1] + b"!"),
        "truncated": replace(as_stored, value=value[:9]),
        "headers": replace(as_stored, headers=[("tenant", b"other"), *as_stored.headers[1:]]),
        "key-id of another patient": replace(as_stored, headers=[*before, (KEY_ID, other.number.encode())]),
        "key-id of nobody": replace(as_stored, headers=[*before, (KEY_ID, b"0" * 32)]),
        "no number": replace(as_stored, headers=[*before, (KEY_ID, b"../../etc")]),
        "no text": replace(as_stored, headers=[*before, (KEY_ID, b"\xff\xfe")]),
        "long number": replace(as_stored, headers=[*before, (KEY_ID, b"0" * 10_000)]),
        "two numbers": replace(as_stored, headers=[*as_stored.headers, (KEY_ID, b"0" * 32)]),
        "number in capitals": replace(as_stored, headers=[*before, (KEY_ID, b"A" * 32)]),
        "empty number": replace(as_stored, headers=[*before, (KEY_ID, b"")]),
        "no value": replace(as_stored, value=None),
    }


@pytest.mark.long
def test_a_changed_record_of_an_erased_patient_is_passed_over(settings: Settings) -> None:
    """Also where nothing but its index is left as it was; and also once the worker has read the patient's keys."""
    sealer = Sealer(settings)
    of_mediquo = [event for event in events(200, seed=5) if event.topic == raw_topic("mediquo")]
    first = sealer(of_mediquo[0])
    number = patient_of(first, settings.partitions).partition
    one, two = (sealer(event) for event in same_partition(of_mediquo, first, number, settings.partitions)[:2])
    assert first.data_key
    assert two.data_key
    hostile = changed_forms(first.data_key.seal(first), two.data_key)
    marker = ProducerRecord(KEYS, f"{first.data_key.index}/{ERASED}".encode(), b"2026-11-27T00:00:00Z", number)
    store = Store(settings)
    with running(settings, **SET) as worker:
        produce(settings, sealer.made)
        sound = produce(settings, [one])
        wait_until_as(undisturbed(settings, sound), store, worker)  # it knows the keys of the partition
        produce(settings, [marker])
        changed = produce(settings, hostile.values())
        sound += produce(settings, [two])  # behind them
        wait_until_as(undisturbed(settings, sound), store, worker)
        passed = [line for line in worker.printed if "erased patient passed over" in line]
    store.close()
    letters = {header(item.headers, RAW) for item in stored(settings, dead_letter_topic("mediquo"))}
    assert [form for form, raw in zip(hostile, changed, strict=True) if str(raw.position) in letters] == []
    assert passed


def same_partition(made: list[ProducerRecord], first: ProducerRecord, number: int, count: int) -> list[ProducerRecord]:
    """Return an event of each other patient whose events lie in one partition."""
    others = {
        event.key: event for event in made if patient_of(event, count).partition == number and event.key != first.key
    }
    return [*others.values()]


@pytest.mark.long
def test_without_encryption_the_header_of_another_producer_stops_nothing(settings: Settings) -> None:
    """No process has ever sealed a record there, so nothing can be lost."""
    plain = settings.model_copy(update={"encryption": None})
    sound = next(event for event in events(60, seed=9) if event.topic == raw_topic("altibbi"))
    odd = replace(sound, headers=[*sound.headers, (KEY_ID, b"0" * 32)])
    forged = replace(odd, key=b"0" * 64, partition=0)
    written = produce(plain, [odd, forged])
    [mapped] = [raw for raw in written if raw.key == sound.key]
    [other] = [raw for raw in written if raw.key != sound.key]
    store = Store(plain)
    with running(plain) as worker:
        wait_until_as(undisturbed(plain, [mapped]), store, worker)
        wait_until(lambda: len(stored(plain, dead_letter_topic("altibbi"))) > 0, "there is no letter")
    store.close()
    letters = {header(item.headers, RAW): item for item in stored(plain, dead_letter_topic("altibbi"))}
    assert header(letters[str(other.position)].headers, ERROR_CODE) == "cannot-be-opened"
    assert str(mapped.position) not in letters


@pytest.mark.long
@pytest.mark.parametrize("missing", ["data key", "key-encryption key", "secrets", "index secret"])
def test_a_lost_key_ends_the_worker_uncommitted_and_its_restore_loses_nothing(settings: Settings, missing: str) -> None:
    made = [event for event in events(60, seed=9) if event.topic == raw_topic("altibbi")]
    keys, raws = sealed(settings, made)
    written = produce(settings, raws if missing == "data key" else [*keys, *raws])
    raws_written = [raw for raw in written if raw.topic != KEYS]
    environment = {
        "data key": SET,
        "key-encryption key": {"FHIRLINE_ENCRYPTION": ENCRYPTION.replace("2026-05", "2026-06")},
        "secrets": {},
        "index secret": {"FHIRLINE_ENCRYPTION": ENCRYPTION.replace(INDEX, "44" * 32)},
    }[missing]
    for _ in range(4):  # more often than an event may end its process: it must not become a dead letter
        with running(settings, **environment) as worker:
            wait_until(lambda: not worker.running, "the worker goes on")
            told = "\n".join(worker.printed)
    position, remedy = {
        "data key": ("raw.altibbi/", "restore the topic from its backup"),
        "key-encryption key": ("2026-05", "restore it from its backup"),
        "secrets": ("raw.altibbi/", "FHIRLINE_ENCRYPTION: not set"),
        "index secret": ("normalizer.keys/", "the index secret is another"),
    }[missing]
    assert position in told
    assert remedy in told
    assert stored(settings, dead_letter_topic("altibbi")) == []
    if missing == "data key":
        produce(settings, keys)
    store = Store(settings)
    with running(settings, **SET) as worker:
        wait_until_as(undisturbed(settings, raws_written), store, worker)
    store.close()


def test_records_that_a_batch_misses_are_read_as_they_are_stored_and_opened_with_it(settings: Settings) -> None:
    topic = raw_topic("mediquo")
    keys, raws = sealed(settings, [event for event in events(60, seed=9) if event.topic == topic])
    produce(settings, keys)
    written = produce(settings, raws)
    place = written[0].topic_partition
    there = [record for record in stored(settings, topic) if record.topic_partition == place]
    assert len(there) > 1
    found = read_gaps(settings, there[:1], {place: (0, there[-1].offset + 1)})[place]
    assert found == there[1:]
    assert all(header(record.headers, KEY_ID) for record in found), "the opener of the batch opens them"
    opener = Opener(settings)
    assert opener.needs_keys(found)
    opener.read_on(found)
    plain = {raw.position: (raw.key, raw.value) for raw in written}
    assert [(item.key, item.value) for item in map(opener.open, found)] == [plain[item.position] for item in found]
    opener.close()
