"""The worker against a real broker: everything arrives where it should, whatever happens to the worker."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from config.settings import Settings
from streams.demo.stack import Process
from streams.embedded import EmbeddedBroker
from streams.headers import header
from streams.kafka import librdkafka
from tests.kafka.brokers import RunningBroker, apache, create_topics
from tests.workload import Store, events, produce, undisturbed
from topics.declared import dead_letter_topic

NOTHING = {"missing": 0, "differing": 0, "unexpected": 0}
ENOUGH = 120.0


@contextmanager
def running(settings: Settings, **more: str) -> Iterator[Process]:
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_GROUP": settings.group,
        "FHIRLINE_SESSION_TIMEOUT": f"{settings.session_timeout:g}",
        "FHIRLINE_LOG_FORMAT": "json",
        **more,
    }
    process = Process("worker", "worker", environment=environment, echo=lambda _: None)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(params=["embedded", "apache"])
def own_broker(request: pytest.FixtureRequest) -> Iterator[RunningBroker]:
    """A broker for one test: what its topics hold is compared whole."""
    if request.param == "embedded":
        with EmbeddedBroker() as broker:
            create_topics(broker.bootstrap)
            yield RunningBroker("embedded", broker.bootstrap)
    else:
        with apache() as kafka:
            create_topics(kafka.bootstrap)
            yield RunningBroker("apache", kafka.bootstrap)


def wait_until_as(expected: dict[str, bytes], store: Store, worker: Process) -> None:
    end = time.monotonic() + ENOUGH
    while store.differences(expected) != NOTHING:
        assert time.monotonic() < end, f"{store.different(expected)}\n{worker.report('is')}"
        assert worker.running, worker.report("has ended")
        store.read()


def test_killed_at_random_moments_nothing_is_lost(
    own_broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in the midst of batches, again and again: the same last value under every key, folds included."""
    settings = own_broker.settings(session_timeout=6)
    kills, rng = 3, random.Random(7)
    raws = produce(settings, events(1_500, seed=1))
    expected = undisturbed(settings, raws)
    store = Store(settings)
    try:
        for kill in range(kills):
            with running(settings, FHIRLINE_BATCH_SIZE="50") as worker:
                seen, end = sum(store.writes.values()), time.monotonic() + ENOUGH
                moment = seen + rng.randint(200, 1_500)
                while sum(store.writes.values()) < moment:
                    assert time.monotonic() < end, f"kill {kill}\n{worker.report('is stuck')}"
                    store.read(0.05)
                worker.kill()
        with running(settings) as worker:
            wait_until_as(expected, store, worker)
        store.read_to_the_end()
        assert store.differences(expected) == NOTHING
        assert all(len(places) == 1 for places in store.partitions.values()), "a key never changes its partition"
        again = sum(count - 1 for count in store.writes.values())
        with capsys.disabled():
            print(
                f"\n{own_broker.kind}: {len(raws)} raw events, {kills} kills: {len(expected)} keys, "
                f"{store.differences(expected)}, "
                f"{again} of {sum(store.writes.values())} records written again (updates and repeats)"
            )
    finally:
        store.close()


def test_unreadable_records_become_dead_letters(own_broker: RunningBroker) -> None:
    """Not JSON, no object, no value: a dead letter each, and what comes behind them is mapped."""
    from confluent_kafka import Producer

    from streams.kafka import producer_config

    settings = own_broker.settings(session_timeout=6)
    producer = Producer(producer_config(settings))
    good = orjson.dumps({"event_type": "survey_finished", "content": {"survey_id": "s-1"}})
    values = [
        b"not json",
        b"[1, 2]",
        None,
        b'{"pass_code": 5528,',
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"event_type":"x"}',
        good,
    ]
    for value in values:
        producer.produce("raw.infermedica", value, b"default|survey/s-1")
    assert producer.flush(20) == 0
    codes = ["not-json", "not-an-object", "empty", "not-json", "not-json"]
    consumer = Consumer(librdkafka(settings, **{"group.id": "letters", "auto.offset.reset": "earliest"}))
    topic = dead_letter_topic("infermedica")
    consumer.assign([TopicPartition(topic, each, 0) for each in consumer.list_topics(topic).topics[topic].partitions])
    store = Store(settings)
    try:
        with running(settings) as worker:
            letters, end = [], time.monotonic() + ENOUGH
            while len(letters) < len(codes) or not any("QuestionnaireResponse/" in name for name in store.values):
                assert time.monotonic() < end, worker.report("is stuck")
                store.read(0.05)
                letters += [each for each in consumer.consume(100, 0.2) if each.error() is None]
        found = [header(letter.headers(), "error-code") for letter in letters]
        assert found[:4] == codes[:4]
        assert [letter.value() for letter in letters[:4]] == [b"not json", b"[1, 2]", None, None], "5528 is withheld"
        assert (
            header(letters[0].headers(), "raw") == f"raw.infermedica/{letters[0].partition()}/0"
            or letters[0].partition() is not None
        )
        assert [orjson.loads(value)["issue"][-1]["code"] for name, value in store.values.items() if "Outcome" in name]
    finally:
        store.close()
        consumer.close()


def test_a_record_too_large_for_kafka_is_a_dead_letter(own_broker: RunningBroker) -> None:
    """One event's output exceeds what a record may be: that event has its letter, the others their resources."""
    settings = own_broker.settings(session_timeout=6)
    raws = produce(settings, events(40, seed=3))
    store = Store(settings)
    consumer = Consumer(librdkafka(settings, **{"group.id": "letters", "auto.offset.reset": "earliest"}))
    topics = [dead_letter_topic(vendor) for vendor in ("altibbi", "azodha", "infermedica", "mediquo")]
    consumer.assign([TopicPartition(topic, each, 0) for topic in topics for each in range(settings.partitions)])
    try:
        with running(settings, FHIRLINE_MESSAGE_MAX_BYTES="65536") as worker:
            big = {
                "type": "patient_report_sent",
                "occurred_on": 1717243500,
                "payload": {
                    "type": "soap",
                    "patient": {"code": "big"},
                    "content": {"plan": "".join(random.Random(1).choices("abcdefghij ", k=200_000))},
                },
            }
            from mappers.instants import Instant
            from streams.step1_receive.raw_record import raw_record

            received = Instant.parse("2024-06-01T12:00:00Z")
            assert received is not None
            raws += produce(settings, [raw_record("mediquo", "acme", orjson.dumps(big), received, None, 64)])
            expected = undisturbed(settings, [raw for raw in raws if b"acme|big" not in (raw.key or b"")])
            letters, end = [], time.monotonic() + ENOUGH
            while store.differences(expected)["missing"] or "record-too-large" not in letters:
                assert time.monotonic() < end, worker.report("is stuck")
                assert worker.running, worker.report("has ended")
                store.read(0.05)
                found = [each for each in consumer.consume(100, 0.2) if each.error() is None]
                letters += [header(each.headers(), "error-code") for each in found]
        assert worker.exit_code == 0, "SIGTERM is an orderly end"
    finally:
        store.close()
        consumer.close()


def test_sigterm_leaves_in_order(own_broker: RunningBroker) -> None:
    """Under load: exit 0, well within the supervisor's patience, and the next worker completes the rest."""
    settings = own_broker.settings(session_timeout=6)
    raws = produce(settings, events(600, seed=5))
    expected = undisturbed(settings, raws)
    store = Store(settings)
    try:
        with running(settings, FHIRLINE_BATCH_SIZE="20") as worker:
            end = time.monotonic() + ENOUGH
            while not store.writes:
                assert time.monotonic() < end, worker.report("is stuck")
                store.read(0.05)
            worker.stop()
            assert worker.exit_code == 0, worker.report("did not end in order")
        with running(settings) as worker:
            wait_until_as(expected, store, worker)
    finally:
        store.close()


def test_missing_topics_are_named_at_start() -> None:
    with EmbeddedBroker() as broker:
        settings = RunningBroker("embedded", broker.bootstrap).settings()
        with running(settings) as worker:
            assert worker.wait() == 2
            assert "is missing: run `fhirline topics apply`" in worker.report("said")
