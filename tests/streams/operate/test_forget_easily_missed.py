"""Records that are easily missed: dead letters without a value, and outcomes that only tables still have."""

from collections.abc import Iterable
from contextlib import closing

import pytest

from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.found import Found
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import OUTCOME, dead_letter_topic
from tests.support.delivery import write
from tests.support.erasure import erase, of
from tests.support.kafka.brokers import RunningBroker
from tests.support.last_records import held
from tests.support.load import Load, load_on


def test_a_dead_letter_without_a_value_remains(embedded: RunningBroker) -> None:
    load = load_on(embedded)
    load.send(load.events(20, seed=3))
    patient = load.patient("mediquo")
    topic, key = dead_letter_topic("mediquo"), patient.raw_key.encode()
    sent = headers(vendor="mediquo", tenant=load.tenant, raw="raw.mediquo/0/1000000", error_code="worker-ended")
    before = letters(found(load, patient), topic)
    write(load.settings, [ProducerRecord(topic, key, None, headers=sent)])
    assert letters(found(load, patient), topic) == before + 1


def found(load: Load, patient: Compartment) -> Found:
    with closing(Erasure(load.settings, patient)) as erasure:
        return erasure.find()


def letters(found: Found, topic: str) -> int:
    return sum(remains.records for place, remains in found.remains.items() if place.topic == topic)


@pytest.mark.parametrize("kept", [True, False])
def test_outcomes_that_the_topic_no_longer_has_get_a_null_value(
    own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Tables keep the rows: the topic's retention is 30 days. ``kept`` False: that of the raw events is over, too."""
    load = load_on(own_broker)
    publish, gone = RecordPublisher.publish, set[tuple[int | None, bytes]]()

    def without_outcomes(self: RecordPublisher, records: Iterable[ProducerRecord]) -> object:
        left = [*records]
        gone.update((record.partition, record.key) for record in left if record.topic == OUTCOME)
        return publish(self, [record for record in left if record.topic != OUTCOME])

    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", without_outcomes)
        load.send(load.events(40, seed=3), kept)
    assert not held(load.settings, OUTCOME)
    patient = load.patient("mediquo")
    report = erase(load.settings, patient)
    written = {(number, key): value for (_, number, key), (value, _) in held(load.settings, OUTCOME).items()}
    assert report.outcomes == len(written)
    assert gone & written.keys(), "keys as the mapping makes them"
    assert {*written.values()} == {None}
    assert len(written) <= sum(of(raw, [patient]) for raw in load.raws), "nobody else's"
    assert erase(load.settings, patient).outcomes == 0, "they are there already"
