"""What is wrong with a command line is told before Kafka is asked, and before anything is read."""

from pathlib import Path

import pytest

from fhirline.config.exit_codes import UNUSABLE
from tests.support import cli
from tests.support.receiving import environment

NOBODY = "127.0.0.1:1"
"""An address at which no broker answers."""

PATIENT = ("forget", "--vendor", "mediquo", "--tenant", "acme", "--patient", "p")

TOLD = {
    ("replay", "--resume", "20260101-000000-1"): "--resume: no run '20260101-000000-1'",
    ("replay", "--discard", "20260101-000000-1"): "--discard: no run '20260101-000000-1'",
    PATIENT: "--reason: required",
    (*PATIENT, "--reason", "request 4711"): "--yes: required without a terminal to ask on",
    (*PATIENT, "--reason", "request 4711", "--lift"): "--yes: required without a terminal to ask on",
}


@pytest.mark.parametrize(("arguments", "told"), TOLD.items(), ids=[" ".join(arguments) for arguments in TOLD])
def test_it_is_told_before_kafka_is_asked(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    env = {**environment(NOBODY), "FHIRLINE_ERASURE_KEY": "k" * 32, "FHIRLINE_REPLAY_DIR": str(tmp_path)}
    ran = cli.run(*arguments, env=env)
    assert ran.returncode == UNUSABLE
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"fhirline: {told}")
