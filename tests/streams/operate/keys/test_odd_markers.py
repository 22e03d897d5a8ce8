"""Markers and other records of ``normalizer.keys`` that no command of ours has written."""

import time
from contextlib import closing

import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, ERASED, KeyRing
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.topics.declared import KEYS
from fhirline.topics.partition import partition_for
from tests.support.encryption import secrets_of
from tests.support.kafka.producing import patient_producer
from tests.support.workload import produce

LONG_AGO_MS = 1_700_000_000_000
PATIENT = Compartment.of("altibbi", "default", "501")


@pytest.mark.parametrize("value", [b"", b"no time", b"9999-12-31T23:59:59Z", b"2099-01-01T00:00:00", b"\xff" * 50_000])
@pytest.mark.parametrize("mark", [ERASED, DESTROYED])
def test_a_lift_is_not_refused_for_ever_by_a_marker_without_a_time_or_with_one_to_come(
    value: bytes, mark: str, settings: Settings
) -> None:
    """The time of its writing counts then."""
    settings = settings.model_copy(update={"erasure_key": SecretStr("0123456789abcdef" * 2)})
    secrets, place = secrets_of(settings), partition_for(PATIENT.raw_key, settings.partitions)
    key = DataKey.new(secrets, secrets.index(PATIENT.partition_key), place)
    name = f"{key.index}/{ERASED}" if mark == ERASED else f"{key.name}/{DESTROYED}"
    marker = ProducerRecord(KEYS, name.encode(), value, place, timestamp_ms=LONG_AGO_MS)
    produce(settings, [key.record(place), marker])
    with closing(Erasure(settings, PATIENT)) as erasure:
        assert erasure.in_use_until() is None
    produce(settings, [ProducerRecord(KEYS, name.encode(), value, place, timestamp_ms=time.time_ns() // 1_000_000)])
    with closing(Erasure(settings, PATIENT)) as erasure:
        until = erasure.in_use_until()
    assert until is not None
    assert 0 < until.timestamp() - time.time() < 3 * 3600


def test_records_of_other_producers_on_the_topic_of_keys_hold_nothing_up(settings: Settings) -> None:
    secrets = secrets_of(settings)
    key = DataKey.new(secrets, secrets.index(PATIENT.partition_key), 0)
    produce(settings, [key.record(0)])
    producer = patient_producer(settings)
    for odd in (None, b"", b"\xff\xfe", b"x" * 10_000, b"/" * 100, b"copied/raw.mediquo/0/9", key.index.encode()):
        for value in (None, b"", b"\xff" * 900_000, b"[" * 100_000):
            producer.produce(KEYS, value, odd, 0)
    producer.flush()
    with closing(KeyRing(settings, secrets)) as ring:
        ring.read_on([0])
        found = ring.find(0, key.index, key.number)
    assert found is not None
    assert found.key == key.key
    with closing(DataKeys(settings, secrets)) as data_keys:
        assert data_keys.count().living == {"2026-05": 1}
        assert data_keys.history().last.keys() == {"2026-05"}
        assert data_keys.rewrap().missing == {}
