"""A result that standard output does not take is one line and an exit code; closed standard files break no command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fhirline.config.exit_codes import DONE, UNREAD, UNUSABLE
from tests.support.paths import ROOT

RESULTS = (
    "settings",
    "--help",
    f"map altibbi '{ROOT}/streams/demo/samples/altibbi-status.json'",
    "topics asyncapi",
    "conformance --format ndjson --output -",
)
"""Commands that write by `print`, by Rich, as bytes and as text at once."""

pytestmark = pytest.mark.parametrize("buffering", ["", "1"], ids=["buffered", "unbuffered"])


def sh(
    words: str, files: str, folder: Path, buffering: str, *keep: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with its standard files as the shell's ``files`` says.

    ``keep``: open files that it inherits. ``variables`` are of its environment. An empty ``buffering`` buffers.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    environment |= {"PYTHONUNBUFFERED": buffering, "FHIRLINE_BASE": "https://fhir.example.org"}
    environment |= variables
    code = "import sys; from fhirline.streams.cli import main; sys.argv[0] = 'fhirline'; main()"
    call = f"'{sys.executable}' -c \"{code}\" {words} {files}"
    return subprocess.run(
        ["bash", "-c", call], cwd=folder, env=environment, capture_output=True, text=True, pass_fds=keep, check=False
    )


@pytest.mark.parametrize("words", RESULTS)
def test_a_full_or_closed_output_is_named(words: str, buffering: str, tmp_path: Path) -> None:
    full = sh(words, ">/dev/full", tmp_path, buffering)
    line = "fhirline: standard output: No space left on device; not all of the result was written\n"
    assert (full.returncode, full.stderr) == (UNUSABLE, line)
    closed = sh(words, ">&-", tmp_path, buffering)
    line = "fhirline: standard output is closed; not all of the result was written\n"
    assert (closed.returncode, closed.stderr) == (UNUSABLE, line)


@pytest.mark.parametrize("words", RESULTS)
def test_a_reader_that_ends_first_is_no_error(words: str, buffering: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = sh(words, f">&{writing}", tmp_path, buffering, writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (UNREAD, "")


def test_closed_input_and_errors_break_nothing(buffering: str, tmp_path: Path) -> None:
    without = sh("settings", "<&- 2>&-", tmp_path, buffering)
    assert (without.returncode, without.stderr) == (DONE, "")
    assert without.stdout.startswith("environment variable\t")
    refused = sh("dead-letters list --since yesterday", "<&- 2>&-", tmp_path, buffering)
    assert (refused.returncode, refused.stdout, refused.stderr) == (UNUSABLE, "", "")


def test_a_character_that_the_encoding_lacks_is_an_escape(buffering: str, tmp_path: Path) -> None:
    """It was a traceback in the midst of doctor's findings."""
    ascii_output = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}
    found = sh("settings", "", tmp_path, buffering, **ascii_output, FHIRLINE_SASL_USERNAME="é→")
    assert (found.returncode, found.stderr) == (DONE, "")
    assert "\nFHIRLINE_SASL_USERNAME\t\\xe9\\u2192\t" in found.stdout
    topics = sh("topics asyncapi", "> asyncapi.yaml", tmp_path, buffering, **ascii_output)
    assert (topics.returncode, topics.stderr) == (DONE, "")
    assert (tmp_path / "asyncapi.yaml").read_bytes() == (ROOT / "docs" / "asyncapi.yaml").read_bytes()
