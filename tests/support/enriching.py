"""``fhirline enrich`` as a process, the thin events that it gets, and what it writes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.demo.stack import Process
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import dead_letter_topic, enriched_topic, raw_topic
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.processes import ForkedProcess
from tests.support.receiving import environment
from tests.support.waiting import LIMIT, wait_until

RECEIVED_AT = "2024-06-01T12:00:00Z"
ENRICHED = enriched_topic("infermedica")
LETTERS = dead_letter_topic("infermedica")
TENANT = "clinic"
PERSONAL = ("Jon Smith", "user@example.com", "1231231234", "pollen", "Cholecystolithiasis")
"""A person's data in the answers, which must not be logged."""


def environ(broker: RunningBroker, api: InfermedicaServer, vendors: Path, **more: str) -> dict[str, str]:
    own = {
        "FHIRLINE_VENDORS_FILE": str(vendors),
        "FHIRLINE_INFERMEDICA_URL": api.url,
        "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
        "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
        "FHIRLINE_SESSION_TIMEOUT": "6",
        "FHIRLINE_ENRICH_RETRY_FIRST": "0.05",
        "FHIRLINE_ENRICH_RETRY_LONGEST": "0.3",
    }
    return environment(broker.bootstrap, **{**own, **more})


@contextmanager
def enriching(broker: RunningBroker, api: InfermedicaServer, vendors: Path, **more: str) -> Iterator["Logged"]:
    process = Logged(environ(broker, api, vendors, **more))
    try:
        yield process
    finally:
        process.stop()


class Logged(ForkedProcess):
    """The process and its output."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.printed: list[str] = []
        super().__init__("enrich", environment=environ, echo=self.printed.append)

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [orjson.loads(line.partition(": ")[2]) for line in self.printed if ": {" in line]
        return [item for item in parsed if item["event"] == event]


def survey(survey_id: str, tenant: str = TENANT) -> ProducerRecord:
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    body = {"event_type": "survey_finished", "content": {"survey_id": survey_id}}
    return raw_record("infermedica", tenant, orjson.dumps(body), received, None, 64)


class Reading:
    """Reads topics from their beginning."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self._consumer = Consumer(librdkafka(settings, **{"group.id": "test-reader", "enable.auto.commit": False}))
        places = [
            TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in range(settings.partitions)
        ]
        self._consumer.assign(places)
        self.messages: list[Message] = []

    def until(self, enough: Callable[[list[Message]], bool], process: Process) -> list[Message]:
        end = time.monotonic() + LIMIT
        while not enough(self.messages):
            assert time.monotonic() < end, process.report(f"made {len(self.messages)} records and is stuck")
            assert process.running, process.report("has ended")
            self.messages += [item for item in self._consumer.consume(500, 0.1) if item.error() is None]
        return self.messages

    def count(self, number: int, process: Process) -> list[Message]:
        return self.until(lambda messages: len(messages) >= number, process)

    def close(self) -> None:
        self._consumer.close()


def survey_of(message: Message) -> str:
    return str(orjson.loads(message.value() or b"{}")["content"]["survey_id"])


def committed(settings: Settings, topic: str) -> dict[int, int]:
    """Return the group's committed offsets above 0."""
    consumer = Consumer(librdkafka(settings, **{"group.id": f"{settings.group}.enrich"}))
    try:
        places = consumer.committed([TopicPartition(topic, item) for item in range(settings.partitions)], timeout=LIMIT)
        return {place.partition: place.offset for place in places if place.offset > 0}
    finally:
        consumer.close()


def wait_until_committed(settings: Settings, records: int, process: Process) -> None:
    """Wait until the group has committed so many raw records, enriched or not."""
    topic = raw_topic("infermedica")
    wait_until(lambda: sum(committed(settings, topic).values()) >= records, lambda: process.report("does not commit"))
