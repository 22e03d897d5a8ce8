"""A worker whose brokers are lost while it starts."""

import signal
import subprocess
import sys

import orjson
import pytest

from fhirline.config.exit_codes import UNCOMMITTED
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.kafka.brokers import create_topics
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

STARTED = """
import os, sys
from fhirline.streams.observe import gc_tuning
broker = int(sys.argv.pop())
gc_tuning.tune_gc = lambda: os.kill(broker, {signal})  # the last step before Faust connects
from fhirline.streams.cli import main
main()
"""


@pytest.mark.long
def test_brokers_that_vanish_while_a_worker_starts_end_it_with_the_documented_code() -> None:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        code = STARTED.format(signal=int(signal.SIGKILL))
        ended = subprocess.run(
            [sys.executable, "-c", code, "worker", str(broker.pid)],
            env=environment(broker.bootstrap, FHIRLINE_SESSION_TIMEOUT="6"),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    lines = [orjson.loads(line) for line in ended.stderr.splitlines()]
    assert lines[-1]["event"] == "worker failed"
    assert ended.returncode == UNCOMMITTED, ended.stderr
