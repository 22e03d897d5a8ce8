"""A survey's data keys are destroyed with its patient's, wherever the erasure is stopped.

Only the patient's events say which surveys are the patient's, so they must be readable until the survey is marked.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from itertools import count

import orjson
import pytest
from confluent_kafka import Message

from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.encryption.secrets import wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import KEYS, enriched_topic, raw_topic
from tests.streams.operate.test_forget_encrypted_report import encrypting
from tests.support.encryption import Sealer
from tests.support.erasure import RECEIVED_AT, erase
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.workload import produce

VENDOR = "infermedica"
WRITES = 7
"""Blocks, messages, tombstones; the survey's first marker, the patient's; markers and tombstones of data keys.

Of the first three nothing differs for a survey: `test_forget_encrypted` has them.
"""


@pytest.mark.long
@pytest.mark.parametrize("crash_at", range(3, WRITES))
def test_another_run_destroys_the_survey_s_keys_too(
    crash_at: int, own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = encrypting(load_on(own_broker))
    thin = {"event_type": "survey_finished", "content": {"survey_id": "s-1"}}
    whole = {**thin, "summary": {"patient": {"id": "p-1", "full_name": "X"}}, "evidence_assessment": {}}
    first = raw_record(VENDOR, load.tenant, orjson.dumps(thin), RECEIVED_AT, None, 64)
    second = raw_record(VENDOR, load.tenant, orjson.dumps(whole), RECEIVED_AT, None, 64)
    sealer = Sealer(load.settings)
    raws = [sealer(first), sealer(replace(second, topic=enriched_topic(VENDOR)))]
    produce(load.settings, sealer.made)
    load.send(raws)
    assert len(sealer.made) == 2
    calls, publish = count(), RecordPublisher.publish

    def crashing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if next(calls) == crash_at:
            raise PublishFailed("crash")
        return publish(self, records, delivered)

    patient = Compartment.of(VENDOR, load.tenant, "p-1")
    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", crashing)
        with pytest.raises(PublishFailed, match="crash"):
            erase(load.settings, patient)
    assert erase(load.settings, patient).complete
    last: dict[bytes, bytes | None] = {}
    with LogScanner(load.settings) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([KEYS]))):
            last[message.key() or b""] = message.value()
    assert not [key for key, value in last.items() if value and wrapped_by(value)], "a data key has a value"
    assert all(last[key.key + f"/{DESTROYED}".encode()] for key in sealer.made)
    topics = [raw_topic(VENDOR), enriched_topic(VENDOR)]
    with Scanner(load.settings) as opened:
        assert not [*opened.read(dict.fromkeys(opened.topic_partitions(topics)))], "an event can be read"
    again = erase(load.settings, patient)
    assert (again.complete, again.data_keys, again.state, again.tombstones.total()) == (True, 0, 0, 0)


def survey_of(load: Load) -> list[ProducerRecord]:
    """Make the thin event of a survey, whose key is the survey's, and the complete one, whose key is the patient's."""
    thin = {"event_type": "survey_finished", "content": {"survey_id": "s-2"}}
    whole = {**thin, "summary": {"patient": {"id": "p-2", "full_name": "X"}}, "evidence_assessment": {}}
    first, second = (
        raw_record(VENDOR, load.tenant, orjson.dumps(body), RECEIVED_AT, None, 64) for body in (thin, whole)
    )
    return [first, replace(second, topic=enriched_topic(VENDOR))]


@pytest.mark.long
def test_another_run_reports_the_survey_s_unreadable_records_too(own_broker: RunningBroker) -> None:
    """Nobody can read any more whose they were, but for the markers of their data keys."""
    load = encrypting(load_on(own_broker))
    sealer = Sealer(load.settings)
    raws = [sealer(record) for record in survey_of(load)]
    produce(load.settings, sealer.made)
    load.send(raws)
    patient = Compartment.of(VENDOR, load.tenant, "p-2")
    first = erase(load.settings, patient)
    topics = {raw_topic(VENDOR), enriched_topic(VENDOR)}
    assert {item.topic for item in first.unreadable} == topics
    assert {item.topic for item in first.remaining} >= {"fhir.r4.bundle"}
    again = erase(load.settings, patient)
    assert (again.unreadable, again.remaining) == (first.unreadable, first.remaining)
    other = erase(load.settings, Compartment.of(VENDOR, load.tenant, "p-3"))
    assert (other.unreadable, other.remaining) == ((), ())


@pytest.mark.long
def test_a_survey_that_comes_during_the_erasure_is_blocked_and_waited_for(
    own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events may be in the hands of a worker, which does not know yet whose they are."""
    load = load_on(own_broker)
    publish, arrived = RecordPublisher.publish, list[bool]()

    def publishing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if not arrived:
            arrived.append(True)
            produce(load.settings, survey_of(load))
        return publish(self, records, delivered)

    monkeypatch.setattr(RecordPublisher, "publish", publishing)
    said: list[str] = []
    with closing(Erasure(load.settings, Compartment.of(VENDOR, load.tenant, "p-2"))) as erasure:
        report = erasure.erase(erasure.find(), settle=0.5, show=said.append)
        assert report.complete
        assert report.blocks == 2
        assert len([line for line in said if line.startswith("waiting")]) == 2
        erased = erasure.blocked()
        survey = Compartment.of(VENDOR, load.tenant, "survey", "s-2")
        assert erasure._erasures.erasure_list.block(survey)
        assert erased
