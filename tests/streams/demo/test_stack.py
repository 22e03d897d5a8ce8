"""The stack of ``fhirline dev`` and ``fhirline demo``: secrets of the run, which other commands find."""

import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import orjson
import pytest

from fhirline.config.own_command import own_command
from fhirline.streams.demo.stack import START_SECONDS, Process, Stack, StackFailed
from fhirline.streams.kafka.headers import KEY_ID, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.topics.declared import BUNDLE, raw_topic, state_topic
from tests.support.console_pages import Visitor
from tests.support.paths import SAMPLES
from tests.support.waiting import LIMIT, wait_until

SAMPLE = (SAMPLES / "altibbi-status.json").read_bytes()


def post(stack: Stack, body: bytes = SAMPLE) -> None:
    headers = {**stack.header("altibbi"), "content-type": "application/json"}
    request = urllib.request.Request(f"{stack.url}/webhooks/altibbi", body, headers)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        assert answer.status == 202


def stored(scanner: LogScanner, *topics: str) -> list[ConsumerRecord]:
    return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


class EndsOnceAwaited(Process):
    """A process that closes its output, and ends with 2 not before somebody waits for its end."""

    def _started(self, *_: object) -> "subprocess.Popen[str]":
        code = "import os, sys; print('the reason', flush=True); os.close(1); sys.stdin.read(); os._exit(2)"
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self, timeout: float = START_SECONDS) -> int:
        assert self._process.stdin
        self._process.stdin.close()
        return super().wait(timeout)


def test_a_process_that_ends_at_its_start_is_told_by_its_exit_code() -> None:
    """Its output ends a moment before it does: it has not been silent for as long as a start may take."""
    process = EndsOnceAwaited("gateway", environment={}, echo=lambda _: None)
    with pytest.raises(StackFailed) as told:
        process.wait_for("gateway listening")
    first, second = str(told.value).splitlines()
    assert first == "gateway ended with exit code 2 before it logged 'gateway listening'; its last lines:"
    assert second == "  the reason"


@pytest.mark.long
def test_what_the_stack_keeps_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    monkeypatch.setenv("FHIRLINE_ENCRYPTION", "those of a deployment, which the stack does not use")
    lines: list[str] = []
    with Stack(lambda _: None, lines.append) as stack, Scanner(stack.settings) as scanner:
        path = stack.settings.encryption_file
        assert path
        assert path.stat().st_mode & 0o777 == 0o600
        post(stack)
        wait_until(lambda: bool(stored(scanner, BUNDLE)), "the event was not mapped")
        kept = stored(scanner, raw_topic("altibbi"), state_topic("altibbi"))
        assert {record.topic for record in kept} == {raw_topic("altibbi"), state_topic("altibbi")}
        for record in kept:
            assert header(record.headers, KEY_ID), record.position
            assert b"INS-77" not in (record.value or b""), "the sample's insurance"
        [raw] = scanner.read(dict.fromkeys(scanner.topic_partitions([raw_topic("altibbi")])))
        assert b"INS-77" in (raw.value() or b"")
        secrets = path.read_text("utf-8").split()
        assert not [line for line in lines for secret in secrets if secret.partition(":")[2] in line]
    assert not path.exists()


@pytest.mark.long
def test_other_commands_work_on_the_stack_with_the_variables_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an erasure, whose block ends a worker that has no erasure key or another one."""
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    monkeypatch.setenv("FHIRLINE_ERASURE_KEY", "that of a deployment, which the stack does not use")
    monkeypatch.setenv("FHIRLINE_ALTIBBI_SECRET", "that of somebody, which is kept in no file")
    monkeypatch.setenv("FHIRLINE_VENDORS", '["altibbi", "azodha"]')
    lines: list[str] = []
    with Stack(lambda _: None, lines.append) as stack:
        variables = stack.environment_file

        def fhirline(command: str) -> str:
            script = f"set -a; . {variables}; set +a; exec {shlex.join(own_command())} {command}"
            environment = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
            done = subprocess.run(
                ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert variables.stat().st_mode & 0o777 == 0o600
        assert "of somebody" not in variables.read_text("utf-8")
        assert "FHIRLINE_AZODHA_SECRET=" in variables.read_text("utf-8")
        post(stack)
        with Scanner(stack.settings) as scanner:
            wait_until(lambda: bool(stored(scanner, BUNDLE)), "the event was not mapped")
        found = orjson.loads(fhirline("doctor --json"))["findings"]
        assert not [item for item in found if item["level"] == "problem"]
        [altibbi] = [item for item in found if item["text"].startswith("altibbi: FHIRLINE_ALTIBBI_SECRET")]
        assert (altibbi["level"], "which doctor cannot see" in altibbi["text"]) == ("warning", True)
        [group] = [item for item in found if item["check"] == "groups"]
        assert (group["level"], "names no members" in group["text"]) == ("ok", True)
        assert not [item for item in found if "DescribeConfigs" in item["text"]], "it has no such privilege"
        assert "\tstable\tunknown\tunknown of " in fhirline("status --once")
        [group] = orjson.loads(fhirline("status --once --json"))["groups"]
        assert (group["members"], group["partitionsWithoutMember"]) == (None, None)
        patient = f"--vendor altibbi --tenant {stack.tenant} --patient 501"
        assert "destroyed" in fhirline(f"forget {patient} --yes --settle 0 --reason 'a test'")
        post(stack, SAMPLE.replace(b"in_progress", b"closed"))

        def passed_over() -> bool:
            stack.check()
            return any("erased patient passed over" in line for line in lines)

        wait_until(passed_over, "the worker did not read the event")
    assert not variables.exists()


@pytest.mark.long
def test_its_console_may_redrive_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    with Stack(lambda _: None) as stack:
        url, _, token = stack.start_console(0).partition("/login?token=")
        visitor = Visitor(url)
        assert visitor.post("/login", token=token).status == 303
        assert visitor.get("/dead-letters/redrive").status == 200
        post(stack)
        with Scanner(stack.settings) as scanner:
            wait_until(lambda: bool(stored(scanner, BUNDLE)), "the event was not mapped")
        fields = {"vendor": "altibbi", "form-token": visitor.form_token("/changes")}
        assert visitor.post("/changes", **fields).headers["Location"] == "/changes/progress"
        pages = [""]

        def ended() -> bool:
            pages.append(visitor.get("/changes/progress").text)
            return "Running." not in pages[-1]

        wait_until(ended, lambda: pages[-1])
        assert "Nothing differs." in pages[-1]
    assert not (tmp_path / "fhirline-data/replays").exists(), "the runs of the stack are its own"
