"""State entries under two keys: in clear, from before encryption was on, and sealed."""

from contextlib import closing
from dataclasses import replace

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import StateUpdate
from fhirline.mappers.results import Entry
from fhirline.streams.kafka.encryption.data_key import DataKey, state_key
from fhirline.streams.kafka.encryption.opener import EncryptionNotSet, Opener
from fhirline.streams.kafka.headers import KEY_ID
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.step3_restore.state import StateCache, state_record
from fhirline.topics.declared import state_topic
from tests.support.encryption import ENCRYPTION, secrets_of
from tests.support.kafka.brokers import RunningBroker
from tests.support.workload import produce

TOPIC, PATIENT = state_topic("mediquo"), "acme|1"
ENTRY = Entry.of({"s": [1_700_000_000, "", "k", "2023-11-14T22:13:20Z"], "v": "value"})
LATER = Entry.of({"s": [1_700_000_001, "", "k", "2023-11-14T22:13:21Z"], "v": "later"})


def update(entry: Entry, deleted: bool = False) -> StateUpdate:
    return StateUpdate("Patient/1", "name", entry, deleted)


@pytest.fixture
def settings(own_broker: RunningBroker) -> Settings:
    return own_broker.settings(encryption=SecretStr(ENCRYPTION))


@pytest.fixture
def key(settings: Settings) -> DataKey:
    secrets = secrets_of(settings)
    made = DataKey.new(secrets, secrets.index(f"mediquo|{PATIENT}"), 0)
    produce(settings, [made.record(0)])
    return made


def restored(settings: Settings, opener: Opener) -> StateCache:
    cache = StateCache(settings, TOPIC, opener=opener)
    cache.restore([0])
    return cache


def left(settings: Settings) -> list[ConsumerRecord]:
    """Return what compaction leaves in the end: the last record of each key, without tombstones."""
    with LogScanner(settings) as scanner:
        stored = [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions([TOPIC])))]
    return [record for record in {record.key: record for record in stored}.values() if record.value is not None]


@pytest.mark.parametrize("deletes", ["sealed", "clear"])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_deleted_entry_has_no_value_under_any_key(
    deletes: str, restarted: bool, settings: Settings, key: DataKey
) -> None:
    """A worker's own records are not read back, so it knows them without a restart, too."""
    with closing(Opener(settings)) as opener:
        cache = restored(settings, opener)
        for entry, data_key in ((ENTRY, None), (LATER, key)):
            produce(settings, cache.record_updates(cache.partition(0), 0, PATIENT, [update(entry)], data_key=data_key))
        assert len(left(settings)) == 2
        if restarted:
            cache = restored(settings, opener)
        assert cache.partition(0)("Patient/1") == {"name": LATER}
        state, own = cache.partition(0), key if deletes == "sealed" else None
        produce(settings, cache.record_updates(state, 0, PATIENT, [update(LATER, deleted=True)], data_key=own))
        assert left(settings) == []
        assert len(restored(settings, opener).partition(0)) == 0


def test_an_entry_that_was_changed_is_named_in_the_log_and_the_others_are_restored(
    settings: Settings, key: DataKey
) -> None:
    """Its value, its header, or the header's number: none of them ends the worker, and none is passed over silently."""
    sealed = key.seal(state_record(TOPIC, 0, PATIENT, update(ENTRY), key))
    value = sealed.value or b""
    changed = [
        replace(sealed, value=value[:-1] + bytes([value[-1] ^ 1])),
        replace(sealed, headers=[]),
        replace(sealed, headers=[(KEY_ID, b"0" * 32)]),
    ]
    other = state_record(TOPIC, 0, PATIENT, StateUpdate("Patient/1", "other", LATER, False), key)
    written = produce(settings, [*changed, other])
    with closing(Opener(settings)) as opener, capture_logs() as told:
        cache = restored(settings, opener)
    assert {*cache.partition(0)("Patient/1")} == {"other"}
    assert [(line["event"], line["position"]) for line in told if line["log_level"] == "error"] == [
        ("state entry passed over: it cannot be opened", str(record.position)) for record in written[: len(changed)]
    ]


ODD = (b"", b"junk", b"[", b"[1,2,3]", b'["one","two"]', b'[["owner"],"Patient/1","name"]', b"\xff\xfe", b"1" * 10_000)


@pytest.mark.parametrize("encrypted", [True, False])
def test_another_producers_records_hold_no_restore_up(encrypted: bool, settings: Settings) -> None:
    """Nor one that has lost its headers on its way. A worker that ended there would end again at every start."""
    secrets = secrets_of(settings)
    index = secrets.index(f"mediquo|{PATIENT}")
    sealed_key = state_key(secrets, index, "Patient/1", "name")
    entry = state_record(TOPIC, 0, PATIENT, update(ENTRY))
    odd = [ProducerRecord(TOPIC, key, entry.value, 0) for key in (*ODD, sealed_key, index.encode())]
    odd += [replace(entry, value=value) for value in (b"", b"{}", b"no JSON", b'{"s":[1,2,3,4],"v":1}')]
    tombstones = [ProducerRecord(TOPIC, key, None, 0) for key in ODD]
    written = produce(settings, [entry, *odd, *tombstones])
    plain = settings if encrypted else settings.model_copy(update={"encryption": None})
    with closing(Opener(plain)) as opener, capture_logs() as told:
        cache = restored(plain, opener)
    assert cache.partition(0)("Patient/1") == {"name": ENTRY}
    named = {line["position"]: line["why"] for line in told if line["log_level"] == "error"}
    assert named.keys() >= {str(record.position) for record in written[1 : 1 + len(odd)]}
    assert str(written[0].position) not in named
    assert named[str(written[1 + len(ODD)].position)] == "it has no header key-id"


def test_the_tombstone_of_an_encrypted_entry_is_no_reason_to_go_on_without_the_secrets(
    settings: Settings, key: DataKey
) -> None:
    """It has no header that tells it from another producer's. Where nobody has ever encrypted, it is one."""
    tombstone = ProducerRecord(TOPIC, state_key(key.secrets, key.index, "Patient/1", "name"), None, 0)
    [written] = produce(settings, [tombstone])
    plain = settings.model_copy(update={"encryption": None})
    with closing(Opener(plain)) as opener, pytest.raises(EncryptionNotSet, match=str(written.position)):
        restored(plain, opener)
