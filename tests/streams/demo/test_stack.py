"""The stack of ``fhirline dev`` and ``fhirline demo``: its events are encrypted with secrets of the run."""

import urllib.request
from pathlib import Path

import pytest

from fhirline.streams.demo.stack import Stack
from fhirline.streams.kafka.headers import KEY_ID, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.topics.declared import BUNDLE, raw_topic, state_topic
from tests.support.paths import SAMPLES
from tests.support.waiting import LIMIT, wait_until

SAMPLE = (SAMPLES / "altibbi-status.json").read_bytes()


def stored(scanner: LogScanner, *topics: str) -> list[ConsumerRecord]:
    return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


@pytest.mark.long
def test_what_the_stack_keeps_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    monkeypatch.setenv("FHIRLINE_ENCRYPTION", "those of a deployment, which the stack does not use")
    lines: list[str] = []
    with Stack(lambda _: None, lines.append) as stack, Scanner(stack.settings) as scanner:
        path = stack.settings.encryption_file
        assert path
        assert path.stat().st_mode & 0o777 == 0o600
        request = urllib.request.Request(
            f"{stack.url}/webhooks/altibbi",
            SAMPLE,
            {**stack.header("altibbi"), "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            assert answer.status == 202
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
