"""``fhirline dead-letters`` beside a broker of the test's own, and what a test writes there."""

import os
import subprocess
from collections.abc import Iterable

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Case, Status
from fhirline.topics.declared import raw_topic
from tests.support import cli
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT

MARKER = "Xanthippe-7731"
RECEIVED_AT = Instant.parse("2024-06-01T12:00:00Z")


def dead_letters(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FHIRLINE_BOOTSTRAP": settings.bootstrap, "FHIRLINE_LOG_FORMAT": "json"} | more
    return cli.run("dead-letters", *arguments, env=environment)


def listed(settings: Settings, *statuses: Status) -> list[Case]:
    with Board(settings, load_vendors().names) as board:
        return [case for case in board.read() if not statuses or case.status in statuses]


def raw_records(settings: Settings, vendors: Iterable[str]) -> int:
    with Scanner(settings) as scanner:
        partitions = scanner.topic_partitions(map(raw_topic, vendors))
        return sum(1 for _ in scanner.read(dict.fromkeys(partitions)))


def write(settings: Settings, *records: ProducerRecord) -> None:
    producer = patient_producer(settings)
    for record in records:
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    assert producer.flush(LIMIT) == 0
