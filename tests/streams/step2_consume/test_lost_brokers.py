"""Processes whose brokers are lost while they start, or do not answer at all."""

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from fhirline.config.exit_codes import UNCOMMITTED, UNUSABLE
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


@pytest.mark.long
@pytest.mark.parametrize("service", ["gateway", "tables"])
def test_brokers_that_vanish_while_another_service_starts_are_waited_for(service: str, tmp_path: Path) -> None:
    """It promises nothing yet, so it goes on, says so in one line, and ends in order."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        options = ("--port", "0") if service == "gateway" else ()
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED.format(signal=int(signal.SIGKILL)), service, *options, str(broker.pid)],
            env=environment(broker.bootstrap, FHIRLINE_TABLES_URL=f"duckdb:{tmp_path}/tables.duckdb"),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        lines = (orjson.loads(line) for line in process.stderr)
        assert next(line for line in lines if line["event"] == "kafka away")["level"] == "error"
        assert process.poll() is None
        process.terminate()
        _, rest = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, rest


@pytest.mark.long
@pytest.mark.parametrize("service", ["worker", "enrich", "deliver", "tables"])
def test_brokers_that_do_not_answer_at_the_start_end_each_service_with_the_documented_code(
    service: str, tmp_path: Path
) -> None:
    own = {
        "FHIRLINE_TABLES_URL": f"duckdb:{tmp_path}/tables.duckdb",
        "FHIRLINE_FHIR_SERVER": "http://127.0.0.1:9/fhir",
        "FHIRLINE_INFERMEDICA_CLIENT_ID": "id",
        "FHIRLINE_INFERMEDICA_CLIENT_SECRET": "secret",
    }
    code = "import sys; from fhirline.streams.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, service],
        env=environment("127.0.0.1:9", **own),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == UNUSABLE, ended.stderr
    assert "FHIRLINE_BOOTSTRAP: no Kafka broker answered" in ended.stderr
