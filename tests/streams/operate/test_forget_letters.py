"""A dead letter may have no value. It is the patient's all the same, and the report lists it."""

from contextlib import closing

from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.found import Found
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.topics.declared import dead_letter_topic
from tests.streams.operate.test_forget import Load, load_on
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker


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
