"""Encryption of what exists, on the embedded broker. test_encrypt_existing_live.py has workers, kills and removal."""

from collections.abc import Iterable
from dataclasses import replace
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
from fhirline.streams.operate.keys.existing.run import Done, Migration, StillPlain
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
from tests.support.encryption import sealed, secrets_of
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
    """Whoever may write the topic names a record in ``copy-of``: it is not taken for its copy."""
    plain = Plain(settings)
    plain.write(of_few(4, seed=13))
    first = plain.written[0]
    other, secrets = of_few(3, seed=14)[0], secrets_of(settings)
    named = (COPY_OF, str(first.position).encode())
    key = DataKey.new(secrets, secrets.index(f"{first.vendor}|acme|another"), first.partition)
    placed = replace(other, topic=first.topic, partition=first.partition)
    produce(settings, [key.record(first.partition)])
    produce(settings, [replace(placed, headers=[*other.headers, named], data_key=key)])
    with pytest.raises(CopiesDiffer, match=r"\d+ records, \d+ copies, and their digests differ: nothing was removed"):
        migrate(settings)


def test_without_secrets_nothing_begins(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="FHIRLINE_ENCRYPTION: not set"):
        Migration(settings.model_copy(update={"encryption": None}), ())
