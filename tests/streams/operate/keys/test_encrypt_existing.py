"""Encryption of what exists, on the embedded broker. test_encrypt_existing_live.py has workers, kills and removal."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.headers import COPY_OF, FIRST_RAW, RAW, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition
from fhirline.streams.operate.dead_letters.cases import Status
from fhirline.streams.operate.keys.existing.run import Done, Migration, StillPlain
from fhirline.streams.operate.keys.existing.survey import OffsetSet
from fhirline.streams.operate.keys.existing.verify import CopiesDiffer
from fhirline.streams.operate.keys.existing.waiting import NotReadYet
from fhirline.streams.step3_restore.erasure_list import Block, hashing
from fhirline.topics.declared import ERASED, dead_letter_topic, enriched_topic, raw_topic, state_topic
from tests.streams.operate.keys.plain import (
    FEW,
    Plain,
    deploy,
    of_few,
    opened,
    stored,
)
from tests.support.encryption import Sealer, sealed, secrets_of
from tests.support.workload import produce, undisturbed

RAW_TOPICS = (*map(raw_topic, FEW), enriched_topic("infermedica"))
LETTER_TOPICS = (*map(dead_letter_topic, FEW),)
STATE_TOPICS = (*map(state_topic, FEW), state_topic("infermedica", enriched=True))


def migrate(settings: Settings) -> Done:
    with Migration(settings, FEW) as migration:
        migration.survey()
        return migration.run(keep=True)


def behind(settings: Settings, done: Done, *topics: str) -> list[ConsumerRecord]:
    """Return what a removal would leave, as it is stored."""
    return [
        record for record in stored(settings, *topics) if record.offset >= done.removed.get(record.topic_partition, 0)
    ]


def copies(records_: Iterable[ConsumerRecord]) -> dict[str, ConsumerRecord]:
    """Return copies by the position that they were made of; each must be there once."""
    found: dict[str, ConsumerRecord] = {}
    for record in records_:
        if (source := header(record.headers, COPY_OF)) is not None:
            assert source not in found
            found[source] = record
    return found


def shown(record: ConsumerRecord) -> tuple[Any, ...]:
    kept = [item for item in record.headers if item[0] not in (COPY_OF, RAW, FIRST_RAW, "received-at")]
    return record.topic_partition, record.key or b"", record.value, record.timestamp_ms, kept


@pytest.mark.long
def test_every_record_has_an_equal_encrypted_copy_and_a_second_run_writes_nothing(settings: Settings) -> None:
    plain = deploy(settings, 40, seed=3)
    keys, raws = sealed(settings, of_few(10, seed=4))
    produce(settings, keys)
    encrypted = produce(settings, raws)  # in the middle: plain ones of another release follow
    plain.write(of_few(10, seed=5))
    done = migrate(settings)
    left = behind(settings, done, *RAW_TOPICS, *LETTER_TOPICS)
    assert all(is_sealed(record) for record in left)
    found = copies(opened(settings, *RAW_TOPICS, *LETTER_TOPICS))
    patients = {record.key for record in plain.written if record.key and b"|" in record.key}
    assert len(patients) > 20
    for record in (*plain.written, *plain.letters):
        assert shown(found[str(record.position)]) == shown(record)
    assert sum(str(record.position) in found for record in encrypted) > 5
    for record in left:
        assert not any(patient in (record.key or b"") + (record.value or b"") for patient in patients)
    assert sum(sums.copies.records for sums in done.raw.values()) == len(copies(stored(settings, *RAW_TOPICS)))
    repeats(settings, plain, done)
    topics = (*RAW_TOPICS, *LETTER_TOPICS, *STATE_TOPICS)
    before = {record.position: record for record in stored(settings, *topics)}
    again = migrate(settings)
    assert again.removed == done.removed
    assert {place: sums.copies.digest for place, sums in again.raw.items()} == {
        place: sums.records.digest for place, sums in done.raw.items()
    }
    assert [record.position for record in stored(settings, *topics) if before.get(record.position) != record] == []


def repeats(settings: Settings, plain: Plain, done: Done) -> None:
    """Copies alone, and beside their events, make the same resources."""
    everything = sorted(opened(settings, *RAW_TOPICS), key=lambda record: record.position)
    of_plain = {str(record.position) for record in plain.written}
    copied = [record for record in everything if header(record.headers, COPY_OF) in of_plain]
    assert all(record.offset >= done.removed[record.topic_partition] for record in copied)
    expected = undisturbed(settings, plain.written)
    resources = {
        name: value for name, value in expected.items() if name.startswith("fhir.r4.") and "bundle" not in name
    }
    assert len(resources) > 50
    for read in (copied, [*plain.written, *copied]):
        after = undisturbed(settings, read)
        assert [name for name, value in resources.items() if after.get(name) != value] == []


def kept(done: Done, position: RecordPosition) -> bool:
    return position.offset >= done.removed.get(position.topic_partition, 0)


@pytest.mark.long
def test_events_of_an_erased_patient_are_not_copied(settings: Settings) -> None:
    plain = Plain(settings)
    plain.write(of_few(12, seed=12))
    gone = plain.written[0]
    own = hashing(settings)
    assert own is not None
    block = Block(own.check, "2024-06-01T12:00:00Z").encode()
    patient = f"{gone.vendor}|{(gone.key or b'').decode()}"
    produce(settings, [ProducerRecord(ERASED, own.digest(patient).encode(), block, 0)])
    done = migrate(settings)
    found = copies(stored(settings, *RAW_TOPICS, *LETTER_TOPICS))
    erased = {record.position for record in plain.written if (record.vendor, record.key) == (gone.vendor, gone.key)}
    assert {str(record.position) for record in plain.written} & found.keys() == {
        str(record.position) for record in plain.written if record.position not in erased
    }
    assert sum(sums.left_out for sums in done.raw.values()) == len(erased)
    assert kept(done, gone.position) is False


def test_what_stops_a_run_is_named_and_removes_nothing(settings: Settings) -> None:
    plain = Plain(settings)
    plain.write(of_few(5, seed=1))
    with Migration(settings, FEW) as migration:
        migration.survey()
        plain.write(of_few(1, seed=2))
        with pytest.raises(StillPlain, match=r"raw\.\w+/\d+/\d+ was written plain .* restart gateway"):
            migration.run(keep=True)
    first = plain.written[0]
    group = Consumer(librdkafka(settings, **{"group.id": settings.group}))
    group.commit(offsets=[confluent_kafka.TopicPartition(*first.topic_partition, 1)], asynchronous=False)
    with Migration(settings, FEW) as migration:
        migration.survey()
        with pytest.raises(NotReadYet, match=rf"{settings.group} \d+\. Start their processes"):
            migration.run(keep=True, patience=0)
    group.close()


@pytest.mark.long
def test_a_copy_that_differs_is_found(settings: Settings) -> None:
    """A copy that this deployment encrypted, and that is another event."""
    plain = Plain(settings)
    plain.write(of_few(4, seed=13))
    first = plain.written[0]
    other, secrets = of_few(3, seed=14)[0], secrets_of(settings)
    named = (COPY_OF, str(first.position).encode())
    key = DataKey.new(secrets, secrets.index(f"{first.vendor}|acme|another"), first.partition)
    placed = replace(other, topic=first.topic, partition=first.partition)
    produce(settings, [key.record(first.partition)])
    produce(settings, [replace(placed, headers=[*other.headers, named], data_key=key)])
    with pytest.raises(CopiesDiffer, match=r"\d records?, \d+ cop(y|ies), and their digests differ: nothing was"):
        migrate(settings)


def forgeries(settings: Settings, plain: Plain) -> list[ProducerRecord]:
    """Make records that name others in ``copy-of``, as whoever may write the topics can.

    In clear, equal to the record and not; encrypted in form, with a number that no data key has; and a real encrypted
    record with another header.
    """
    first, second, third, fourth = plain.written[:4]
    sealer = Sealer(settings)
    real = sealer(of_few(3, seed=14)[0])
    assert real.data_key is not None
    produce(settings, sealer.made)
    [held] = produce(settings, [real])
    other = ProducerRecord(first.topic, b"0" * 64, b"{}", first.partition, [("key-id", b"1" * 32)])
    made = [
        (first, ProducerRecord(first.topic, first.key or b"", b"{}", first.partition, first.headers)),
        (second, ProducerRecord(second.topic, second.key or b"", second.value, second.partition, second.headers)),
        (third, replace(other, topic=third.topic, partition=third.partition)),
        (fourth, ProducerRecord(fourth.topic, held.key or b"", held.value, fourth.partition, held.headers)),
    ]
    return [replace(item, headers=[*item.headers, (COPY_OF, str(of.position).encode())]) for of, item in made]


@pytest.mark.long
def test_a_forged_copy_holds_nothing_up(settings: Settings) -> None:
    """It is not taken for a copy, and no letter names it afterwards."""
    plain = deploy(settings, 30, seed=13)
    redriven = next(letter for letter in plain.letters if letter.topic != dead_letter_topic("azodha"))
    plain.redriven(redriven, Status.FAILED)
    of_letter = RecordPosition.parse(header(redriven.headers, RAW))
    assert of_letter is not None
    odd = ProducerRecord(of_letter.topic, b"2" * 64, b"x", of_letter.partition, [("key-id", b"3" * 32)])
    [unopened] = produce(settings, [odd], in_clear=True)
    named = (COPY_OF, str(of_letter).encode())
    made = [*forgeries(settings, plain), replace(odd, value=b"y", headers=[*odd.headers, named])]
    made.append(replace(odd, value=b"z", headers=[*odd.headers, (COPY_OF, str(unopened.position).encode())]))
    forged = {record.position for record in produce(settings, made, in_clear=True)}
    plain.write([ProducerRecord(of_letter.topic, b"last", b"not json", of_letter.partition)])
    done = migrate(settings)
    for sums in (*done.raw.values(), *done.letters.values()):
        assert sums.records == sums.copies
    genuine = [item for item in stored(settings, *RAW_TOPICS) if item.position not in forged]
    found = {header(item.headers, COPY_OF): item for item in genuine if header(item.headers, COPY_OF)}
    for record in plain.written:
        assert is_sealed(found[str(record.position)])
    assert (found[str(unopened.position)].key, found[str(unopened.position)].value) == (odd.key, odd.value)
    for letter in behind(settings, done, *LETTER_TOPICS):
        for name in (RAW, FIRST_RAW):
            assert RecordPosition.parse(header(letter.headers, name)) not in forged


def test_a_set_of_offsets_holds_ranges() -> None:
    """Offsets that are far from each other take no more than those that are close."""
    rng, held, expected = Random(4), OffsetSet(), set[int]()
    for _ in range(3_000):
        offset = rng.choice((rng.randrange(400), (1 << 62) + rng.randrange(5)))
        held.add(offset)
        expected.add(offset)
        first, end = sorted((rng.randrange(450), rng.choice((rng.randrange(450), 1 << 63))))
        assert held.count(first, end) == sum(first <= item < end for item in expected)
        assert (first in held) == (first in expected)
    tracemalloc.start()
    long = OffsetSet()
    for offset in range(10**6, 10**6 + 200_000):
        long.add(offset)
    long.add(10**12)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (long.count(0, 10**13), most < 10_000) == (200_001, True)


def test_without_secrets_nothing_begins(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="FHIRLINE_ENCRYPTION: not set"):
        Migration(settings.model_copy(update={"encryption": None}), ())
