"""Attempts of a redriven event, when it is done, and what becomes of records that cannot be sent."""

import time
from collections.abc import Iterator
from dataclasses import replace

import confluent_kafka
import orjson
import pytest
from confluent_kafka import Consumer

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition, headers_of, timestamp_ms
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Status
from fhirline.streams.operate.dead_letters.redrive import Redriver
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.dead_letter import dead_letter
from tests.streams.operate.test_dead_letters import letters
from tests.support.dead_letters import MARKER, RECEIVED_AT, dead_letters, listed, write
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.running_worker import running
from tests.support.waiting import LIMIT
from tests.support.workload import produce


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test, with the declared topics."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)


@pytest.mark.long
def test_attempts_are_counted(settings: Settings) -> None:
    """Another producer's record without headers, in another partition than its key's, and records that are not sent."""
    foreign = {"event_type": "survey_finished", "content": {"note": MARKER}}
    producer = patient_producer(settings)
    for value in (orjson.dumps(foreign), None, b'{"pass_code": 5528,', f'["{MARKER}"]'.encode()):
        producer.produce("raw.infermedica", value, b"a-key", 4, timestamp=1_717_000_000_123)
    assert producer.flush(LIMIT) == 0
    first = "raw.infermedica/4/0"
    with running(settings) as worker:
        with letters(settings, "infermedica") as found:
            end = time.monotonic() + LIMIT
            while len(found.read()) < 4:
                assert time.monotonic() < end, worker.report("is stuck")
        for attempt in (2, 3):
            said = dead_letters(settings, "redrive", "--yes", "--code", "resource-refused")
            assert said.returncode == 1, said.stdout + said.stderr
            assert "1 sent, 0 done, 1 failed again" in said.stdout
            (case,) = listed(settings, Status.FAILED)
            assert (case.id, case.attempts, len(case.letters)) == (first, attempt, attempt)
            assert case.last.received is not None
            assert case.last.received.text == "2024-05-29T16:26:40.123Z"
        said = dead_letters(settings, "redrive", "--yes", "--status", "open", "--rate", "50")
        assert said.returncode == 1
        assert "/4/1 was not sent: the raw record has no value" in said.stderr
        assert "/4/2 was not sent: still unreadable (not-json)" in said.stderr
        assert "1 sent, 0 done, 1 failed again, 0 not mapped yet" in said.stdout
        assert MARKER not in worker.report("said")
    with Scanner(settings) as scanner:
        sent = [*scanner.read({TopicPartition("raw.infermedica", 4): None})]
    assert [item.value() for item in sent[4:]] == [sent[0].value(), sent[0].value(), sent[3].value()]
    assert {timestamp_ms(item) for item in sent} == {1_717_000_000_123}
    assert [header(headers_of(item), "attempt") for item in sent[4:]] == ["2", "3", "2"]
    assert {header(headers_of(item), "received-at") for item in sent[4:]} == {"2024-05-29T16:26:40.123Z"}


def test_an_event_is_done_when_every_stage_has_committed_it(settings: Settings) -> None:
    """Worker and enrichment both read an enrichment's redriven event. It stays done until there is a new letter."""
    assert RECEIVED_AT is not None
    body = orjson.dumps({"event_type": "survey_finished", "content": {"survey_id": "s-1"}})
    (raw,) = produce(settings, [raw_record("infermedica", "acme", body, RECEIVED_AT, None, 64)])
    write_letter(settings, raw)

    def status() -> Status:
        with Board(settings, ["infermedica"]) as board:
            (case,) = board.read()
            return case.status

    with Board(settings, ["infermedica"]) as board:
        redriver = Redriver(settings, "k1")
        (place,) = redriver.send(board.read()).sent.values()
        assert (place.topic, place.partition) == (raw.topic, raw.partition)
        commit(settings, settings.group, place, place.offset)
        commit(settings, f"{settings.group}.enrich", place, place.offset + 1)
        assert status() is Status.REDRIVEN, "a committed offset is the next one to be read"
        commit(settings, settings.group, place, place.offset + 1)
        assert status() is Status.DONE
        redriver.settle(board.read())
    commit(settings, settings.group, place, 0)
    assert status() is Status.DONE, "it was marked: a group that begins anew changes nothing"
    write_letter(settings, raw)
    assert status() is Status.OPEN
    again = (("attempt", b"2"), ("first-raw", str(raw.position).encode()), ("redrive", b"k2"))
    write_letter(settings, replace(raw, offset=place.offset, headers=[*raw.headers, *again]))
    with Board(settings, ["infermedica"]) as board:
        (case,) = board.read()
    assert (case.status, case.attempts, len(case.letters)) == (Status.FAILED, 2, 3)
    assert case.answers("k2"), "whoever died before it marked the event need not send it again"


def write_letter(settings: Settings, raw: ConsumerRecord) -> None:
    write(settings, dead_letter(raw, raw.value, "enrichment-failed", "/summary", event="e"))


def commit(settings: Settings, group: str, place: RecordPosition, offset: int) -> None:
    consumer = Consumer(librdkafka(settings, **{"group.id": group}))
    consumer.commit(offsets=[confluent_kafka.TopicPartition(place.topic, place.partition, offset)], asynchronous=False)
    consumer.close()
