"""The end of an erasure with encryption on: all that it marked is open again, and no new data key is destroyed."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace

import orjson
import pytest
from confluent_kafka import Message

from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.encryption.key_ring import ERASED as MARKER
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.keys import DestroyedMeanwhile, LetInMeanwhile
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import ERASED, KEYS, enriched_topic, raw_topic
from fhirline.topics.partition import partition_for
from tests.streams.operate.test_forget_encrypted_report import encrypting
from tests.support.encryption import Sealer, secrets_of
from tests.support.erasure import RECEIVED_AT, erase
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.workload import produce

pytestmark = pytest.mark.long  # half a minute each, of which most is waiting

VENDOR = "infermedica"


@pytest.fixture
def load(own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr("fhirline.streams.operate.erasure.keys.USED_SECONDS", -1e6)  # an hour and more later
    return encrypting(load_on(own_broker))


def survey(load: Load, number: int = 1) -> list[ProducerRecord]:
    """Make a survey's thin event, whose key is the survey's, and the complete one, whose key is the patient's."""
    thin = {"event_type": "survey_finished", "content": {"survey_id": "s-1", "number": number}}
    whole = {**thin, "summary": {"patient": {"id": "p-1", "full_name": "X"}}, "evidence_assessment": {}}
    first = raw_record(VENDOR, load.tenant, orjson.dumps(thin), RECEIVED_AT, None, 64)
    second = raw_record(VENDOR, load.tenant, orjson.dumps(whole), RECEIVED_AT, None, 64)
    return [first, replace(second, topic=enriched_topic(VENDOR))]


def send(load: Load, records: list[ProducerRecord]) -> None:
    sealer = Sealer(load.settings)
    raws = [sealer(record) for record in records]
    produce(load.settings, sealer.made)
    load.send(raws)


def last_values(load: Load, topic: str) -> dict[str, bytes]:
    """Return what a topic has after compaction."""
    found: dict[str, bytes | None] = {}
    with LogScanner(load.settings) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([topic]))):
            found[(message.key() or b"").decode()] = message.value()
    return {key: value for key, value in found.items() if value is not None}


def marked(load: Load) -> list[str]:
    return [key for key in last_values(load, KEYS) if key.endswith(f"/{MARKER}")]


def readable(load: Load) -> list[bytes]:
    topics = [raw_topic(VENDOR), enriched_topic(VENDOR)]
    with Scanner(load.settings) as scanner:
        return [message.value() or b"" for message in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]


def lift(load: Load, patient: Compartment) -> int:
    with closing(Erasure(load.settings, patient)) as erasure:
        assert erasure.in_use_until() is None
        return erasure.lift(erasure.find())


def test_everything_that_was_marked_is_open_again(load: Load) -> None:
    """The survey's own key, and that of a copy outside the patient's partition: only events say whose they were."""
    patient, secrets = Compartment.of(VENDOR, load.tenant, "p-1"), secrets_of(load.settings)
    send(load, survey(load))
    elsewhere = (partition_for(patient.raw_key, load.settings.partitions) + 1) % load.settings.partitions
    key = DataKey.new(secrets, secrets.index(f"{VENDOR}|{load.tenant}|record/x"), elsewhere)
    copy = survey(load, 2)[1]
    copied = headers(tenant=load.tenant)
    produce(load.settings, [key.record(elsewhere)])
    load.send([ProducerRecord(copy.topic, b"n", copy.value, elsewhere, copied, 1, data_key=key)])
    other = Compartment.of(VENDOR, load.tenant, "p-2")
    assert erase(load.settings, other).complete
    kept = {*marked(load)}
    assert erase(load.settings, patient).complete
    assert (len(marked(load)), len(last_values(load, ERASED)), readable(load)) == (5, 3, [])
    assert erase(load.settings, patient).complete, "another run, which cannot read the events any more"
    assert lift(load, patient) == 2
    assert ({*marked(load)}, len(last_values(load, ERASED))) == (kept, 1), "of the other patient"
    again = survey(load, 3)
    send(load, again)
    assert {*readable(load)} == {record.value for record in again}


def before_writing(
    monkeypatch: pytest.MonkeyPatch, wanted: Callable[[ProducerRecord], bool], beside: Callable[[], object]
) -> None:
    """Let another command run before the first records of a kind are written."""
    publish, began = RecordPublisher.publish, list[bool]()

    def publishing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        batch = [*records]
        if not began and any(map(wanted, batch)):
            began.append(True)
            beside()
        return publish(self, batch, delivered)

    monkeypatch.setattr(RecordPublisher, "publish", publishing)


def is_destruction(record: ProducerRecord) -> bool:
    return record.key.endswith(f"/{DESTROYED}".encode()) and record.value is not None


def is_lift(record: ProducerRecord) -> bool:
    return record.key.endswith(f"/{MARKER}".encode()) and record.value is None


def rewrap(load: Load) -> int:
    with closing(DataKeys(load.settings, secrets_of(load.settings))) as data_keys:
        return data_keys.rewrap().removed


@pytest.mark.parametrize("destroyer", ["rewrap", "forget"])
def test_a_key_that_a_lift_lets_in_is_not_destroyed_by_what_was_read_before(
    destroyer: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway makes it before the lift, and uses it for an hour."""
    patient = Compartment.of(VENDOR, load.tenant, "p-1")
    send(load, survey(load))
    assert erase(load.settings, patient).complete
    new = survey(load, 2)
    sealer = Sealer(load.settings)
    raws = [sealer(record) for record in new]
    produce(load.settings, sealer.made)
    before_writing(monkeypatch, is_destruction, lambda: lift(load, patient))
    if destroyer == "rewrap":
        assert rewrap(load) == 0
    else:
        assert erase(load.settings, Compartment.of(VENDOR, load.tenant, "p-2")).complete
    produce(load.settings, raws)
    assert {*readable(load)} == {record.value for record in new}
    assert {key.key.decode() for key in sealer.made} <= last_values(load, KEYS).keys()
    assert rewrap(load) == 0, "nor by a later run"


def test_a_lift_is_refused_where_a_key_is_destroyed_meanwhile(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Compartment.of(VENDOR, load.tenant, "p-1")
    send(load, survey(load))
    assert erase(load.settings, patient).complete
    before, sealer = {*marked(load)}, Sealer(load.settings)
    raws = [sealer(record) for record in survey(load, 2)]
    produce(load.settings, sealer.made)
    before_writing(monkeypatch, is_lift, lambda: rewrap(load))
    with pytest.raises(DestroyedMeanwhile):
        lift(load, patient)
    assert ({*marked(load)}, len(last_values(load, ERASED))) == (before, 2)
    produce(load.settings, raws)
    assert readable(load) == [], "passed over, and none is lost without a marker"
    assert lift(load, patient) == 2


def test_an_erasure_of_a_patient_who_is_let_in_meanwhile_is_not_complete(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Compartment.of(VENDOR, load.tenant, "p-1")
    send(load, survey(load))
    before_writing(monkeypatch, is_destruction, lambda: lift(load, patient))
    with pytest.raises(LetInMeanwhile):
        erase(load.settings, patient)
    assert erase(load.settings, patient).complete
    assert readable(load) == []
