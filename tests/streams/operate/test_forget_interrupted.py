"""``fhirline forget`` where Kafka goes away once the erasure has begun: nobody is told that nothing was done."""

import os
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest

from fhirline.config.own_command import own_command
from fhirline.config.settings import load_settings
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.forget import ForgetRequest, forget
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka import log_scanner
from fhirline.streams.kafka.encryption.key_ring import ERASED as MARKER
from fhirline.streams.kafka.encryption.secrets import parse
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.observe import logs
from fhirline.streams.step3_restore.erasure_list import Block, Compartment, Hashing
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import ERASED, KEYS
from fhirline.topics.partition import partition_for
from tests.support.encryption import ENCRYPTION
from tests.support.erasure import SECRET
from tests.support.kafka.brokers import create_topics
from tests.support.waiting import LIMIT
from tests.support.workload import produce

AT = b"2024-06-01T12:00:00Z"


@pytest.mark.long
def test_kafka_goes_away_after_the_block_is_written() -> None:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        patient = ("--vendor", "altibbi", "--tenant", "default", "--patient", "501", "--unknown")
        process = subprocess.Popen(
            own_command("forget", *patient, "--yes", "--reason", "a test", "--settle", "5"),
            env={**os.environ, "FHIRLINE_BOOTSTRAP": broker.bootstrap, "FHIRLINE_ERASURE_KEY": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("waiting"):
                break
        broker.stop()
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, errors
    assert "not done yet: fix that, and run this again" in errors


def test_kafka_goes_away_in_the_middle_of_a_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker is gone by then: nobody may be told that nothing was done. Another run does the rest."""
    patient, secrets = Compartment.of("altibbi", "default", "501"), parse(ENCRYPTION)
    monkeypatch.setattr(logs, "configure_logging", lambda settings: None)  # later tests log, too
    monkeypatch.setattr(log_scanner, "SILENCE_SECONDS", 1.0)  # the broker does not come back
    monkeypatch.setenv("FHIRLINE_ERASURE_KEY", SECRET)
    monkeypatch.setenv("FHIRLINE_ENCRYPTION", ENCRYPTION)
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        monkeypatch.setenv("FHIRLINE_BOOTSTRAP", broker.bootstrap)
        settings, hashes = load_settings(), Hashing(SECRET.encode())
        place = partition_for(patient.raw_key, settings.partitions)
        marker = ProducerRecord(KEYS, f"{secrets.index(patient.partition_key)}/{MARKER}".encode(), AT, place)
        block = Block(hashes.check, AT.decode())
        produce(
            settings, [marker, ProducerRecord(ERASED, hashes.digest(patient.partition_key).encode(), block.encode(), 0)]
        )
        publish = RecordPublisher.publish

        def publishing(self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Any = None) -> object:
            done = publish(self, batch := [*records], delivered)
            if any(record.key == marker.key for record in batch):
                broker.stop()
            return done

        monkeypatch.setattr(RecordPublisher, "publish", publishing)
        with pytest.raises(CommandFailed, match="not done yet: fix that, and run this again") as failed:
            forget(ForgetRequest("altibbi", "default", "501", lift=True, yes=True, reason="a test"))
    assert failed.value.exit_code == 1
