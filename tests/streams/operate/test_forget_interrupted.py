"""``fhirline forget`` where Kafka goes away once the erasure has begun: nobody is told that nothing was done."""

import os
import subprocess

import pytest

from fhirline.config.own_command import own_command
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.streams.operate.test_forget import SECRET
from tests.support.kafka.brokers import create_topics
from tests.support.waiting import LIMIT


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
