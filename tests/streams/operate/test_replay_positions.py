"""Offset ranges, and live events between reading and writing, on real brokers."""

from pathlib import Path
from typing import Any

import pytest

from fhirline.config.settings import Settings
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.replay.offset_ranges import offset_ranges
from fhirline.streams.operate.replay.report import report
from fhirline.streams.operate.replay.run import Run
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import canonical_topic
from tests.support.kafka.brokers import RunningBroker, also_on_apache
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed

NOON = 1_717_243_200_000
MEDIQUO = ("mediquo",)


@also_on_apache
def test_an_offset_range_begins_at_its_time_and_has_an_end(own_broker: RunningBroker) -> None:
    """The start is found by timestamp, also after the last record. The end is after the last record, in any batch."""
    settings = own_broker.settings()
    producer = patient_producer(settings, {"linger.ms": 50})
    for second in range(10):
        producer.produce("raw.mediquo", b"{}", b"k", 2, timestamp=NOON + second * 1000)
    assert producer.flush(LIMIT) == 0
    found = {
        item.partition: item for item in offset_ranges(settings, Selection(MEDIQUO, since="2024-06-01T12:00:04.500Z"))
    }
    assert found[2].end == found[2].live_from == 10
    assert found[2].complete
    assert found[0].start == found[0].end == 0
    late = {item.partition: item for item in offset_ranges(settings, Selection(MEDIQUO, since="2024-06-01T12:01:00Z"))}
    if own_broker.kind == "apache":
        assert (found[2].start, late[2].start, late[2].end) == (5, 10, 10)
    else:  # Tansu goes by the time of writing, which is no earlier: the range leaves records out one by one
        assert found[2].start <= 5


class Meanwhile(RecordPublisher):
    """A live worker writes a key of the replay's just before the replay's records."""

    def __init__(self, settings: Settings, live: ProducerRecord) -> None:
        super().__init__(settings)
        self._live = [live]

    def publish(self, records: Any, delivered: Any = None) -> Any:
        ours = list(records)
        if self._live and any(our.topic == self._live[0].topic for our in ours):
            super().publish([self._live.pop()])
        return super().publish(ours, delivered)


@pytest.fixture
def settings(own_broker: RunningBroker, tmp_path: Path) -> Settings:
    return own_broker.settings(replay_dir=tmp_path)


@also_on_apache
@pytest.mark.long
def test_a_live_record_between_reading_and_writing_stays(settings: Settings) -> None:
    """The replay's record comes after it and covers it. It is written again."""
    raws = produce(settings, [event for event in events(40, seed=3) if event.topic == "raw.mediquo"])
    expected = undisturbed(settings, raws)
    with Run.new(settings, Selection(MEDIQUO), 1) as run:
        run.map()
        with run.journals() as journals:
            publisher = run.publisher(journals, tombstones=False)
            source, made = next(
                (source, made)
                for source, journal in journals.items()
                for made in journal.records()
                if made.key.startswith("Patient/")
            )
            live = headers(
                vendor="mediquo",
                tenant="acme",
                raw=f"{source}/999",
                mapping_version=MAPPING_VERSION,
                event_key="f" * 64,
                occurred_at="2030-01-01T00:00:00Z",
            )
            topic = canonical_topic("Patient")
            lived = ProducerRecord(topic, made.key.encode(), b'{"resourceType":"Patient"}', made.partition, live)
            publisher._publisher = Meanwhile(settings, lived)
            done = publisher.run()
    assert done.restored == 1
    store = Store(settings)
    store.read_to_the_end()
    name = f"{topic} {made.key}"
    assert store.values.pop(name) == lived.value
    canonical = {key: value for key, value in expected.items() if key.startswith("fhir.r4.") and "bundle" not in key}
    assert {key: store.values.get(key) for key in canonical if key != name} == {
        key: value for key, value in canonical.items() if key != name
    }
    store.close()


@pytest.mark.long
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
def test_a_live_event_that_fails_is_no_failure_of_the_range(settings: Settings) -> None:
    """It is mapped too, so that its changes are not overwritten. The live worker writes its dead letter."""
    raws = produce(settings, [event for event in events(40, seed=3) if event.topic == "raw.altibbi"])
    received = Instant.parse("2024-07-01T12:00:00Z")
    assert received
    nobody = b'{"type": "status_update", "user_id": "", "id": 1}'
    with Run.new(settings, Selection(("altibbi",)), 1) as run:
        run.map()
        with run.journals() as journals:
            before = {source: (journal.events, dict(journal.failures())) for source, journal in journals.items()}
        (late,) = produce(settings, [raw_record("altibbi", "acme", nobody, received, None, 64)])
        with run.journals() as journals:
            run.publisher(journals, tombstones=False).run()
        with run.journals() as journals:
            assert journals[f"{late.topic}/{late.partition}"].has_failed(late.offset)
            assert {
                source: (journal.events, dict(journal.failures())) for source, journal in journals.items()
            } == before
            assert sum(journal.events for journal in journals.values()) == len(raws)


@pytest.mark.long
@also_on_apache
def test_the_event_of_a_dead_letter_is_folded_into_what_later_events_wrote(settings: Settings) -> None:
    """An event that is mapped only now becomes part of what later events of the fold have written since."""
    raws = produce(settings, [event for event in events(40, seed=3) if event.topic == "raw.mediquo"])
    with Run.new(settings, Selection(MEDIQUO), 1) as run:
        run.map()
        with run.journals() as journals:
            run.publisher(journals, tombstones=False).run()
            source, late = next(
                (source, record)
                for source, held in journals.items()
                for record in held.records()
                if record.key.startswith("Patient/") and record.raw_offset > 0
            )
    partition = int(source.rpartition("/")[2])
    letters = [raw for raw in raws if raw.partition == partition and raw.offset < late.raw_offset]
    producer = patient_producer(settings)
    for letter in letters:
        named = headers(vendor="mediquo", raw=str(letter.position), error_code="mapping-failed", attempt="1")
        producer.produce("dead-letter.mediquo", letter.value, letter.key, headers=list(named))
    assert producer.flush(LIMIT) == 0
    with Run.new(settings, Selection(MEDIQUO, dead_letters=True), 1) as run:
        run.map()
        with run.journals() as journals:
            assert sum(journal.events for journal in journals.values()) == len(letters)
            assert journals[source].next == run.jobs[source].offset_range.live_from > late.raw_offset
            assert not report(run.comparison(journals), run.tables_version).differs
