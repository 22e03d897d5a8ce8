"""Raw records under ``event/<key>``: of events in which an earlier version found no patient."""

from typing import cast

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.operate.erasure.find import Finder
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from tests.support.kafka.brokers import settings_for
from tests.support.workload import events

AT = Instant.parse("2024-06-01T12:00:00Z")


@pytest.mark.parametrize(("key", "found"), [(b"acme|event/5f1e", True), (b"acme|another", False)])
def test_a_record_without_a_patient_in_its_key_is_the_patients_by_its_content(key: bytes, found: bool) -> None:
    """Mapping version 1 did not see the patient of a body whose JSON is in text. The key of any other record holds."""
    sent = next(orjson.loads(raw.value or b"") for raw in events(60, seed=3) if raw.topic == "raw.mediquo")
    assert AT is not None
    in_text = {name: orjson.dumps(part).decode() if isinstance(part, dict) else part for name, part in sent.items()}
    now = raw_record("mediquo", "acme", orjson.dumps(in_text), AT, None, 64)
    assert now.value != orjson.dumps(in_text), "the body has JSON in text"
    tenant, _, patient = now.key.decode().partition("|")
    assert not patient.startswith("event/")
    settings = settings_for("127.0.0.1:9")
    finder = Finder(settings, cast(Scanner, None), build_normalizer(settings), Compartment("mediquo", tenant, patient))
    old = headers(received_at=AT.text, tenant="acme", event_key="5f1e")
    record = ConsumerRecord("raw.mediquo", 0, 0, 0, key, orjson.dumps(in_text), old)
    assert (finder._own(record) is not None) == found
