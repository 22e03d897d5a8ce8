"""Bombs on a real broker: what lies behind them in their partition is mapped (mapping.md §1.1)."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from fhirline.config.settings import Settings
from fhirline.streams.demo.stack import Process
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import OUTCOME, dead_letter_topic
from tests.streams.operate.test_dead_letters import RECEIVED_AT, letters
from tests.support.bombs import TARGETS, bombs
from tests.support.kafka.brokers import RunningBroker
from tests.support.memory import peak_memory
from tests.support.messages import header_of
from tests.support.running_worker import NOTHING, running
from tests.support.waiting import LIMIT
from tests.support.workload import Store, produce, undisturbed


@pytest.mark.long
def test_an_event_behind_bombs_is_mapped(own_broker: RunningBroker) -> None:
    """Three events of one patient in one partition: one that is cut, one that is too complex, and an ordinary one."""
    assert RECEIVED_AT is not None
    settings = own_broker.settings()
    wanted = ("numbers at payload/chat", "numbers at payload/patient/diseases")
    bodies = [body for _, _, body in bombs("mediquo", *wanted)]
    ordinary = orjson.dumps({**TARGETS["mediquo"].body, "occurred_on": 1700000060})
    raws = produce(
        settings, [raw_record("mediquo", "acme", body, RECEIVED_AT, None, 64) for body in (*bodies, ordinary)]
    )
    assert len({(raw.topic, raw.partition) for raw in raws}) == 1
    expected = undisturbed(settings, raws)
    with (
        closing(Store(settings)) as store,
        letters(settings, "mediquo") as found,
        running(settings) as worker,
    ):
        end = time.monotonic() + LIMIT
        while store.differences(expected) != NOTHING or not found.read():
            assert time.monotonic() < end, worker.report("is stuck")
            assert worker.running, worker.report("has ended")
            store.read(0.05)
        assert worker.stop() == 0
        (letter,) = found.read_to_the_end()
    assert header_of(letter, "error-code") == "too-complex"
    assert header_of(letter, "error-path") == "/payload/patient/diseases"
    assert header_of(letter, "raw") == str(raws[1].position)
    assert len([name for name in expected if "MedicationRequest/" in name]) == 1


BOMBS = int(os.environ.get("BOMBS") or 12)
"""Bombs that wait for the worker. With 200 of them a worker that reads ahead without a bound needs more than 1 GiB."""

CONTAINER = 1_024
"""MiB of a small container."""


VENDORS = ("mediquo", "altibbi", "infermedica", "azodha")


def large(count: int) -> Iterator[ProducerRecord]:
    """Make ``count`` bombs of each vendor by turns, of several patients, each near the gateway's limit of a body."""
    assert RECEIVED_AT is not None
    most = -(-count // len(VENDORS))
    found = {vendor: [*islice(large_bodies(vendor), most)] for vendor in VENDORS}  # most others would be made in vain
    for number, vendor in enumerate(islice(cycle(VENDORS), count)):
        bodies = found[vendor]
        body = bodies[number // len(VENDORS) % len(bodies)]
        name_patient(vendor, body, number)
        yield raw_record(vendor, "acme", orjson.dumps(body), RECEIVED_AT, None, 64)


def large_bodies(vendor: str) -> Iterator[dict[str, Any]]:
    return (orjson.loads(body) for _, _, body in bombs(vendor) if len(body) > 3_000_000)


def name_patient(vendor: str, body: dict[str, Any], number: int) -> None:
    """Give a bomb one of nine patients, and what makes it another event."""
    patient = f"p{number % 9}"
    if vendor == "mediquo":
        body["occurred_on"] = 1_700_000_000 + number
        body["payload"]["patient"]["code"] = patient
    elif vendor == "altibbi":
        body["consultation_id"], body["user_id"] = number + 1, patient
    elif vendor == "infermedica":
        body["content"]["survey_id"], body["summary"]["patient"]["id"] = f"s{number}", patient
    else:
        body["data"]["patientId"], body["data"]["appointment"]["id"] = patient, f"a{number}"


@pytest.mark.long
@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)  # the embedded one lets a group wait half its session
def test_many_bombs_that_wait_fit_in_a_container(own_broker: RunningBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """All are committed, each has one outcome or dead letter, and the worker never uses the container's memory."""
    settings = own_broker.settings(session_timeout=120)  # a busy machine must not look like a pause
    raws = produce(settings, large(BOMBS))
    with running(settings) as worker:
        worker.wait_for("partitions assigned", timeout=LIMIT)  # before that, Kafka may have no coordinator of the group
        wait_until_committed(settings, raws, worker)
        peak = peak_memory(worker.pid)
        assert worker.stop() == 0
    with Scanner(settings) as scanner:
        topics = [OUTCOME, *map(dead_letter_topic, VENDORS)]
        made = Counter(
            (str(header_of(item, "raw")), item.topic())
            for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))
        )
    with capsys.disabled():
        size = sum(len(raw.value or b"") for raw in raws) / 1e6
        print(f"\n{len(raws)} bombs, {size:.0f} MB: at most {peak} MiB; {Counter(topic for _, topic in made)}")
    assert {*made.values()} == {1}
    assert sorted(position for position, _ in made) == sorted(str(raw.position) for raw in raws)
    assert peak < CONTAINER


def wait_until_committed(settings: Settings, raws: list[ConsumerRecord], worker: Process) -> None:
    """Wait until the worker's group has committed every raw record."""
    ends = {(raw.topic, raw.partition): raw.offset + 1 for raw in raws}
    asked = [Place(topic, partition) for topic, partition in ends]
    end, missing = time.monotonic() + max(LIMIT, 20 * len(raws)), {*ends}
    with closing(Consumer(librdkafka(settings, **{"group.id": settings.group, "log_level": 0}))) as consumer:
        while missing:
            assert time.monotonic() < end, worker.report("is stuck")
            assert worker.running, worker.report("has ended")
            found = consumer.committed(asked, timeout=LIMIT)
            missing = {
                (place.topic, place.partition) for place in found if place.offset < ends[place.topic, place.partition]
            }
            time.sleep(0.2)  # nothing tells of a commit
