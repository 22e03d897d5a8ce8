"""An event that cannot be mapped or written becomes a dead letter. The events around it are not affected."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import headers_of
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import BUNDLE, dead_letter_topic, state_topic
from fhirline.topics.partition import partition_for
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.messages import header_of
from tests.support.replaying import replay
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed

RECEIVED_AT = Instant.parse("2024-06-01T12:00:00Z")
KEY = b"default|survey/s-1"


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test, with the declared topics."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)


class Letters:
    """The dead letters of a vendor that have been read."""

    def __init__(self, settings: Settings, vendor: str) -> None:
        self._consumer = Consumer(librdkafka(settings, **{"group.id": "letters", "auto.offset.reset": "earliest"}))
        self._settings, self._topic = settings, dead_letter_topic(vendor)
        self._consumer.assign([TopicPartition(self._topic, item, 0) for item in range(settings.partitions)])
        self._found: list[Message] = []

    def read(self) -> list[Message]:
        """Read on, and return all letters."""
        self._found += [item for item in self._consumer.consume(100, 0.1) if item.error() is None]
        return self._found

    def read_to_the_end(self) -> list[Message]:
        with Scanner(self._settings) as scanner:
            return list(scanner.read(dict.fromkeys(scanner.topic_partitions([self._topic]))))

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def letters(settings: Settings, vendor: str) -> Iterator[Letters]:
    found = Letters(settings, vendor)
    try:
        yield found
    finally:
        found.close()


def test_unreadable_records(settings: Settings) -> None:
    """Not JSON, no object, no value, cut off, too deep: each becomes a letter. The good record after them is mapped."""
    good = orjson.dumps({"event_type": "survey_finished", "content": {"survey_id": "s-1"}})
    deep = b'{"a":' * 220 + b"1" + b"}" * 220
    bad = [b"not json", b"[1, 2]", None, b'{"pass_code": 5528001739462,', deep]
    producer = patient_producer(settings)
    for value in (*bad, good):
        producer.produce("raw.infermedica", value, KEY)
    assert producer.flush(LIMIT) == 0
    store = Store(settings)
    with letters(settings, "infermedica") as found, running(settings) as worker:
        end = time.monotonic() + LIMIT
        while len(found.read()) < len(bad) or not any("QuestionnaireResponse/" in name for name in store.values):
            assert time.monotonic() < end, worker.report("is stuck")
            store.read(0.05)
        seen = list(found.read())
        assert "5528001739462" not in worker.report("said"), "no log line quotes a payload"
    store.close()
    assert [header_of(item, "error-code") for item in seen] == [
        "not-json",
        "not-an-object",
        "empty",
        "not-json",
        "too-deep",
    ]
    assert [item.value() for item in seen] == [None, b"[1,2]", None, None, None], (
        "what cannot be redacted is in the raw record alone"
    )
    errors = [orjson.loads(header_of(item, "errors") or "") for item in seen]
    assert [[problem["problem"] for problem in error] for error in errors] == [
        ["syntax"],
        ["not-an-object"],
        [],
        ["cut-off"],
        ["too-deep"],
    ]
    assert errors[3] == [
        {
            "code": "not-json",
            "problem": "cut-off",
            "bytes": 28,
            "sha256": sha256(bad[3] or b"").hexdigest(),
            "line": 1,
            "column": 29,
        }
    ]
    assert header_of(seen[3], "error-path") == "line 1, column 29"
    place = f"raw.infermedica/{partition_for(KEY, settings.partitions)}"
    assert [header_of(item, "raw") for item in seen] == [f"{place}/{offset}" for offset in range(len(bad))]
    assert all(header_of(item, "attempt") == "1" for item in seen)


def test_an_unsupported_event_has_an_outcome_and_no_letter(settings: Settings) -> None:
    producer = patient_producer(settings)
    producer.produce(
        "raw.mediquo", orjson.dumps({"type": "something_new", "payload": {"patient": {"code": "p"}}}), b"k"
    )
    assert producer.flush(LIMIT) == 0
    store = Store(settings)
    with letters(settings, "mediquo") as found, running(settings) as worker:
        end = time.monotonic() + LIMIT
        while not store.values:
            assert time.monotonic() < end, worker.report("is stuck")
            store.read(0.05)
        assert worker.stop() == 0
        assert found.read_to_the_end() == []
    (outcome,) = (orjson.loads(value) for value in store.values.values())
    assert [issue["code"] for issue in outcome["issue"] if issue["severity"] == "warning"] == ["not-supported"]
    store.close()


@pytest.mark.long
def test_a_record_that_is_too_large_for_kafka(settings: Settings) -> None:
    """One event's output exceeds the size of a record. It has a letter, and the other events have their resources.

    Its raw value is as large, so the letter goes without it, and names the raw record that has it.
    """
    assert RECEIVED_AT is not None
    raws = produce(settings, events(40, seed=3))
    expected = undisturbed(settings, raws)
    text = "".join(random.Random(1).choices("abcdefghij ", k=200_000))
    body: dict[str, Any] = {"type": "patient_report_sent", "occurred_on": 1717243500}
    body["payload"] = {"type": "soap", "patient": {"code": "big"}, "content": {"plan": text}}
    (large,) = produce(settings, [raw_record("mediquo", "acme", orjson.dumps(body), RECEIVED_AT, None, 64)])
    producer = patient_producer(settings)  # one that is not ours, with a key and a header as large
    producer.produce("raw.mediquo", b"{not json", b"k" * 70_000)
    told = [("tenant", b"clinic"), ("received-at", b"2024-06-01T12:00:00Z"), ("attempt", b"2")]
    producer.produce("raw.mediquo", b"{not json", b"clinic|k", headers=[*told, ("event-type", b"h" * 70_000)])
    assert producer.flush(LIMIT) == 0
    store = Store(settings)
    with (
        letters(settings, "mediquo") as found,
        running(settings, FHIRLINE_MESSAGE_MAX_BYTES="65536") as worker,
    ):
        end = time.monotonic() + LIMIT

        def too_large() -> list[Message]:
            return [item for item in found.read() if header_of(item, "error-code") == "record-too-large"]

        def bare() -> list[Message]:
            return [item for item in found.read() if header_of(item, "error-code") == "not-json"]

        while store.different(expected)["missing"] or not too_large() or len(bare()) < 2:
            assert time.monotonic() < end, worker.report("is stuck")
            assert worker.running, worker.report("has ended")
            store.read(0.05)
        assert {header_of(item, "raw") for item in too_large()} == {str(large.position)}
        assert {item.value() for item in too_large()} == {None}
        without_key, without_header = sorted(bare(), key=lambda item: (item.key() or b"").startswith(b"clinic"))
        assert without_key.value() is without_header.value() is None
        at = header_of(without_key, "raw") or ""
        assert (without_key.key() or b"").decode() == at.replace("raw.mediquo", "default|record")
        assert without_header.key() == b"clinic|k"
        assert {*told} < {*headers_of(without_header)}, "whose it is, and of which case, is not lost"
        assert header_of(without_header, "event-type") is None
        assert worker.stop() == 0
    store.close()


@pytest.mark.long
def test_a_state_entry_that_is_too_large_for_kafka(settings: Settings, tmp_path: Path) -> None:
    """Nothing of the event is published either: all is as if it had never come, but for its dead letter.

    The patient's later event would else be folded with a name that no restart, and no other worker, knows of. A replay
    finds the same.
    """
    assert RECEIVED_AT is not None
    limit = {"FHIRLINE_MESSAGE_MAX_BYTES": "65536"}
    drawn = random.Random(1).choices
    name, date = "".join(drawn("abcdefghij ", k=70_000)), "".join(drawn("abcdefghij ", k=40_000))
    upload = {"eventName": "UploadedFileAndTest"}
    events_of_azodha = (
        upload | {"data": {"patient": {"id": "big", "lastName": name}, "file": {"id": 1, "name": "a.pdf"}}},
        # The entry has what follows from the date as well, and is larger than the Bundle, which Kafka would take.
        {"eventName": "BookAppointment", "id": 2, "patientId": "big", "date": date, "startTime": "10:00"},
        upload | {"data": {"patient": {"id": "big", "gender": "FEMALE"}, "file": {"id": 3, "name": "c.pdf"}}},
    )
    bodies = [orjson.dumps(event) for event in events_of_azodha]
    *large, small = (raw_record("azodha", "acme", body, RECEIVED_AT, None, 64) for body in bodies)
    raws = produce(settings, [*large, *events(40, seed=3), small])
    refused = [raw for raw in raws if raw.value in {item.value for item in large}]
    expected = undisturbed(settings, [raw for raw in raws if raw not in refused])
    store = Store(settings)
    with letters(settings, "azodha") as found, running(settings, **limit) as worker:
        wait_until_as(expected, store, worker)
        end = time.monotonic() + LIMIT
        keys = {item.key for item in refused}
        while len(told := [item for item in found.read() if item.key() in keys]) < len(refused):
            assert time.monotonic() < end, worker.report("is stuck")
        assert worker.stop() == 0
    told_of = {tuple(header_of(item, name) for name in ("error-code", "error-path", "raw")) for item in told}
    assert told_of == {("record-too-large", state_topic("azodha"), str(item.position)) for item in refused}
    replayed = replay(settings, tmp_path, "--vendor", "azodha", **limit)
    assert replayed.lines == [], replayed.said
    assert "2 x record-too-large" in replayed.said
    published = replay(settings, tmp_path, "--publish", "--bundles", "--vendor", "azodha", **limit)
    assert "2 x record-too-large" in published.said
    store.read_to_the_end()
    bundles = {name for name in store.values if name.startswith(BUNDLE)}
    assert bundles == {name for name in expected if name.startswith(BUNDLE)}
    store.close()
