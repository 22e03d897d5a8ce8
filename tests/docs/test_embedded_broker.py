"""The chapter on the embedded broker: its client reads a record, and a client without lz4 fails as it describes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.embedded_quirks import LIMITS
from tests.support import cli
from tests.support.console import blocks
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.kafka.producing import patient_producer
from tests.support.paths import DOCS
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

PAGE = (DOCS / "commands.md").read_text("utf-8").partition("## The embedded broker")[2].partition("\n## ")[0]
KEY = b"Encounter/1"
VALUE = b'{"resourceType":"Encounter","id":"1","text":"' + 1_000 * b"long enough to be compressed " + b'"}'
WITHOUT_LZ4 = """
import sys

sys.modules["lz4"] = sys.modules["lz4framed"] = sys.modules["lz4f"] = None
from kafka import KafkaConsumer, TopicPartition

consumer = KafkaConsumer(bootstrap_servers=sys.argv[1], group_id=None, auto_offset_reset="earliest")
consumer.assign([TopicPartition("fhir.r4.Encounter", partition) for partition in range(6)])
next(consumer)
"""


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """An embedded broker with one record, written as the worker writes it."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        producer = patient_producer(settings_for(broker.bootstrap))
        producer.produce("fhir.r4.Encounter", VALUE, KEY)
        assert producer.flush(LIMIT) == 0
        yield broker.bootstrap


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_the_client_of_the_chapter_reads_a_record(bootstrap: str) -> None:
    [client] = blocks(PAGE, "python")
    ran = python(client.replace("127.0.0.1:9092", bootstrap))
    assert (ran.returncode, ran.stdout) == (0, f"{KEY.decode()} {VALUE.decode()}\n"), ran.stderr


def test_without_lz4_a_client_fails_as_described(bootstrap: str) -> None:
    ran = python(WITHOUT_LZ4, bootstrap)
    assert ran.returncode == 1
    [described] = {name for name in ("UnsupportedCodecError",) if f"raises `{name}`" in PAGE}
    assert described in ran.stderr


def test_status_and_doctor_report_what_it_cannot_do(bootstrap: str) -> None:
    for command in (("status", "--once"), ("doctor",)):
        ran = cli.run(*command, env=environment(bootstrap))
        assert "; ".join(LIMITS) in ran.stdout + ran.stderr, command
        assert "on its disk" not in ran.stdout
