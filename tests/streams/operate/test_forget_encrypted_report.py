"""The report of an erasure with encryption on: what can still be read, and what ends the erasure."""

from contextlib import closing
from dataclasses import dataclass, field

import orjson
import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.report import Report, lines
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import BUNDLE, KEYS, raw_topic
from tests.support.encryption import ENCRYPTION, INDEX, NEW, ROTATED, Sealer, secrets_of
from tests.support.erasure import erase, of
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.workload import produce

VENDOR = "mediquo"


@dataclass
class Sealed:
    """Events of one tenant that a gateway has sealed and a worker has mapped."""

    load: Load
    sealer: Sealer = field(init=False)

    def __post_init__(self) -> None:
        self.sealer = Sealer(self.load.settings)
        raws = [self.sealer(event) for event in self.load.events(30, seed=3)]
        produce(self.load.settings, self.sealer.made)
        self.load.send(raws)

    @property
    def patient(self) -> Compartment:
        return self.load.patient(VENDOR)

    def late_key(self) -> str:
        """Write a data key as a gateway does that meets the patient after the erasure. Return its name."""
        [raw] = [raw for raw in self.load.raws if raw.key == self.patient.raw_key.encode()][:1]
        late = Sealer(self.load.settings)
        late(ProducerRecord(raw.topic, raw.key or b"", raw.value, None, raw.headers))
        produce(self.load.settings, late.made)
        return late.made[0].key.decode()


def with_secrets(settings: Settings, text: str) -> Settings:
    return settings.model_copy(update={"encryption": SecretStr(text)})


def encrypting(load: Load) -> Load:
    load.settings = with_secrets(load.settings, ENCRYPTION)
    return load


@pytest.fixture
def sealed(own_broker: RunningBroker) -> Sealed:
    return Sealed(encrypting(load_on(own_broker)))


@pytest.mark.long
def test_bundles_are_listed_although_the_events_they_name_cannot_be_read(own_broker: RunningBroker) -> None:
    """Also once compaction has removed the resources, which name the events, too."""
    load = encrypting(load_on(own_broker))
    sealer = Sealer(load.settings)
    raws = produce(
        load.settings, [sealer(event) for event in load.events(30, seed=3) if event.topic == f"raw.{VENDOR}"]
    )
    produce(load.settings, sealer.made)
    load.raws = raws
    patient = load.patient(VENDOR)
    mine = [raw for raw in raws if of(raw, [patient])]
    normalize = build_normalizer(load.settings)
    made: list[ProducerRecord] = []
    for raw in mine:
        made += map_event(raw, normalize, InMemoryState(), load.settings.partitions).records
    expected = produce(load.settings, [record for record in made if record.topic == BUNDLE])
    assert expected
    for _ in range(2):
        report = erase(load.settings, patient)
        assert sum(remains.records for remains in report.remaining if remains.topic == BUNDLE) == len(expected)


@pytest.mark.long
def test_the_keys_that_are_reported_are_those_of_the_patient(sealed: Sealed) -> None:
    """Other patients were erased before, and a gateway has made further keys of theirs."""
    erase(sealed.load.settings, sealed.patient)
    sealed.late_key()
    other = erase(sealed.load.settings, sealed.load.patient("altibbi"))
    assert (other.data_keys, other.data_keys_wrapped_by) == (1, ["2026-05"])


@pytest.mark.long
def test_every_key_encryption_key_that_unwraps_them_is_reported_until_compaction(sealed: Sealed) -> None:
    """A rewrap leaves the older value in the log, which the older key-encryption key unwraps."""
    settings = with_secrets(sealed.load.settings, ROTATED)
    [key] = [
        key
        for key in sealed.sealer.keys.values()
        if key.index == secrets_of(settings).index(sealed.patient.partition_key)
    ]
    again = secrets_of(settings).wrap(key.name, key.key)
    [place] = [made.partition for made in sealed.sealer.made if made.key == key.name.encode()]
    produce(settings, [ProducerRecord(KEYS, key.name.encode(), again, place)])
    first = erase(settings, sealed.patient)
    assert (first.data_keys, first.data_keys_wrapped_by) == (1, ["2026-05", "2026-11"])
    finished = erase(settings, sealed.patient)
    assert (finished.data_keys, finished.data_keys_wrapped_by) == (0, ["2026-05", "2026-11"])
    assert "once 2026-05, 2026-11 are destroyed" in "\n".join(lines(finished, 30))


@pytest.mark.long
def test_a_report_lists_what_stays_and_cannot_be_read_and_a_later_one_says_what_is_done(sealed: Sealed) -> None:
    """The second run comes after a rotation, with secrets in which the older key-encryption key is no more."""
    settings, patient = sealed.load.settings, sealed.patient
    mine = [raw for raw in sealed.load.raws if of(raw, [patient])]
    first = erase(settings, patient)
    assert first.tombstones.total()
    rotated = with_secrets(settings, ROTATED)
    with closing(DataKeys(rotated, secrets_of(rotated))) as keys:
        keys.rewrap()
    second = erase(with_secrets(settings, f"index:{INDEX} 2026-11:{NEW}"), patient)
    for report in (first, second):
        raw = [left for left in report.unreadable if left.topic == raw_topic(VENDOR)]
        assert sum(left.records for left in raw) == len(mine)
        assert (raw[0].first_offset, raw[0].last_offset) == (mine[0].offset, mine[-1].offset)
        assert orjson.loads(orjson.dumps(report.document()))["unreadable"][0]["records"]
        text = "\n".join(lines(report, 7))
        assert "what remains and cannot be read" in text
        assert f"{raw[0].topic}/{raw[0].partition}: " in text
    assert (first.data_keys_wrapped_by, first.key_encryption_keys_gone) == (["2026-05"], [])
    assert "once 2026-05 is destroyed" in "\n".join(lines(first, 7))
    assert (second.data_keys_wrapped_by, second.key_encryption_keys_gone) == ([], ["2026-05"])
    text = "\n".join(lines(second, 7))
    assert "is destroyed: fhirline keys rotate" not in text
    assert "what wrapped them is not among these secrets: 2026-05." in text
    assert "a Provenance of the erasure" in "\n".join(lines(first, 7))
    assert "a Provenance of the erasure" not in text


def test_a_key_encryption_key_that_is_gone_is_named_beside_one_that_is_there() -> None:
    """After a rotation with destroy-old the log has the older values, too, which a copy of the older secrets opens."""
    report = Report("mediquo", "acme", "0" * 64, data_keys=1)
    report.data_keys_wrapped_by, report.key_encryption_keys_gone = ["2026-11"], ["2026-05"]
    text = "\n".join(lines(report, 7))
    assert "once 2026-11 is destroyed" in text
    assert "not among these secrets: 2026-05. They were wrapped by it before: it must be in no other copy" in text
    assert "the erasure is complete" not in text
