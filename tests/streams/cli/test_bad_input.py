"""Bad input ends a command with one message and exit code 2, never with a traceback."""

from pathlib import Path

import pytest

from tests.support import cli
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import SAMPLES
from tests.support.receiving import environment

SAMPLE = str(SAMPLES / "altibbi-status.json")
BINARY, FOLDER, DEEP = "binary", "folder", "deep"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / BINARY).write_bytes(bytes(range(256)))
    (tmp_path / DEEP).write_bytes(b"[" * 100_000)
    (tmp_path / FOLDER).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("map", "altibbi", FOLDER),
        ("map", "altibbi", BINARY),
        ("map", "altibbi", DEEP),
        ("map", "altibbi", SAMPLE, "--received-at", "9999-99-99T00:00:00Z"),
        ("map", "altibbi", SAMPLE, "--tenant", "Ä"),
        ("topics", "asyncapi", "--check", BINARY),
        ("topics", "list", "--timeout", "nan"),
        ("status", "--once", "--timeout", "inf"),
        ("status", "--once", "--every", "inf"),
        ("dead-letters", "list", "--since", "yesterday"),
        ("dead-letters", "export", "--to", FOLDER),
        ("trace", "nonsense"),
        ("ingest", "altibbi", FOLDER),
        ("terminology", "draft", "altibbi", BINARY, "--to", SAMPLE),
        ("terminology", "draft", "altibbi", FOLDER),
        ("replay", "--since", "yesterday"),
        ("replay", "--since", "2024-02-01T00:00:00Z", "--until", "2024-01-01T00:00:00Z"),
        ("replay", "--partitions", "4-3", "--publish"),
        ("replay", "--partitions", "0-9999999999"),
        ("replay", "--partitions", "²"),
        ("replay", "--partitions", ","),
        ("replay", "--tenant", "Ä"),
        ("dead-letters", "list", "--since", "2024-02-01T00:00:00Z", "--until", "2024-02-01T00:00:00Z"),
    ],
    ids=" ".join,
)
def test_it_ends_without_a_traceback(arguments: tuple[str, ...], files: Path, embedded: RunningBroker) -> None:
    ran = cli.run(*arguments, env=environment(embedded.bootstrap), cwd=files)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr
