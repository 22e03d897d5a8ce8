"""Gateway and ingest with encryption on: nothing of a patient is in clear, and each patient's key is there first."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import EVENT_KEY, KEY_ID, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.topics.declared import KEYS, raw_topic
from fhirline.topics.partition import partition_for
from tests.support import cli
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.receiving import Answer, create_raw_topics, environment, running_gateway
from tests.support.waiting import wait_until

RAW = raw_topic("altibbi")


@pytest.fixture
def settings() -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield settings_for(broker.bootstrap, encryption=ENCRYPTION)


def as_stored(settings: Settings, topic: str) -> list[ConsumerRecord]:
    with LogScanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions([topic])))]


def opened(settings: Settings) -> list[ConsumerRecord]:
    with Scanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions([RAW])))]


def body(user: int, number: int) -> dict[str, Any]:
    return {"user_id": user + 1, "id": number, "question": f"Planted-{user} has a cough"}


def check(settings: Settings, users: range, count: int, keys: int) -> None:
    """Check what lies on the topics: ``count`` events of ``users``, sealed with ``keys`` data keys."""
    raws, made = as_stored(settings, RAW), as_stored(settings, KEYS)
    assert len(raws) == count
    assert len({record.key for record in made}) == keys
    names = {(record.key or b"").decode() for record in made}
    for record in raws:
        shown = (record.key or b"") + (record.value or b"") + b"".join(value for _, value in record.headers)
        assert b"Planted" not in shown
        assert f"{(record.key or b'').decode()}/{header(record.headers, KEY_ID)}" in names
    for record in made:
        assert any(
            (record.key or b"").startswith(raw.key or b"-") and raw.partition == record.partition for raw in raws
        )
    found = opened(settings)
    assert {orjson.loads(record.value or b"")["question"] for record in found} == {
        body(user, 0)["question"] for user in users
    }
    for record in found:
        assert record.partition == partition_for(record.key or b"", settings.partitions), "as without encryption"
        assert header(record.headers, KEY_ID) is None


def test_the_gateway_seals_what_it_stores(settings: Settings, tmp_path: Path) -> None:
    for expected_keys in (5, 10):  # another process makes keys of its own
        with running_gateway(settings.bootstrap, tmp_path, FHIRLINE_ENCRYPTION=ENCRYPTION) as gateway:
            for number in range(20):
                answer = gateway.post("/webhooks/altibbi/acme", body(number % 5, number + expected_keys * 100))
                assert answer.status == 202
            assert gateway.request("GET", "/readyz").status == 200
        check(settings, range(5), expected_keys * 4, expected_keys)


def test_without_the_topic_of_keys_nothing_is_acknowledged(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_ENCRYPTION=ENCRYPTION) as gateway:
            assert gateway.post("/webhooks/altibbi/acme", body(1, 1)).status == 503
            assert gateway.event("topic missing")["topic"] == KEYS
            assert f"{KEYS}: no such topic" in gateway.request("GET", "/readyz").body.decode()
        assert as_stored(settings_for(broker.bootstrap), RAW) == []
        (tmp_path / "events.ndjson").write_bytes(orjson.dumps(body(1, 1)) + b"\n")
        done = cli.run(
            "ingest",
            "altibbi",
            "events.ndjson",
            cwd=tmp_path,
            env=environment(broker.bootstrap, FHIRLINE_ENCRYPTION=ENCRYPTION),
        )
        assert done.returncode == 2
        assert f"topic {KEYS} does not exist" in done.stderr


def test_ingest_seals_what_it_writes(settings: Settings, tmp_path: Path) -> None:
    lines = b"".join(orjson.dumps(body(number % 7, number)) + b"\n" for number in range(2_000))
    (tmp_path / "events.ndjson").write_bytes(lines)
    done = cli.run(
        "ingest", "altibbi", "events.ndjson", "--tenant", "acme", cwd=tmp_path,
        env=environment(settings.bootstrap, FHIRLINE_ENCRYPTION=ENCRYPTION),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2,000 lines: 2,000 in the topic, 0 rejected, 0 blank\n")
    check(settings, range(7), 2_000, 7)


def test_unusable_secrets_end_the_gateway_before_it_listens(settings: Settings, tmp_path: Path) -> None:
    done = cli.run("gateway", "--port", "0", cwd=tmp_path, env=environment(settings.bootstrap, FHIRLINE_ENCRYPTION="x"))
    assert done.returncode == 2
    assert "FHIRLINE_ENCRYPTION: entry 1 is not of the form" in done.stderr


def some_answered(sent: list[Future[Answer]]) -> bool:
    return sum(item.done() for item in sent) > 20


@pytest.mark.long
def test_a_gateway_that_is_killed_leaves_no_event_without_its_key(settings: Settings, tmp_path: Path) -> None:
    """Acknowledged events are stored and can be opened, and so can those that were not acknowledged in time."""
    accepted: list[str] = []
    for attempt in range(5):
        with running_gateway(settings.bootstrap, tmp_path, FHIRLINE_ENCRYPTION=ENCRYPTION) as gateway:
            accepted.append(gateway.post("/webhooks/altibbi/acme", body(attempt, attempt)).json["event_key"])
            with ThreadPoolExecutor(8) as threads:
                first = 1_000 * (attempt + 1)
                bodies = [body(number, number) for number in range(first, first + 400)]  # each of a new patient
                sent = [threads.submit(gateway.post, "/webhooks/altibbi/acme", item) for item in bodies]
                wait_until(partial(some_answered, sent), "nothing is answered")
                os.kill(gateway.pid, signal.SIGKILL)
                for item in sent:
                    try:
                        answer = item.result()
                    except (OSError, HTTPException):
                        continue
                    assert answer.status == 202
                    accepted.append(answer.json["event_key"])
    assert len(accepted) > 100
    found = {header(record.headers, EVENT_KEY) for record in opened(settings)}
    assert set(accepted) <= found
    assert len(found) == len(as_stored(settings, RAW)), "each can be opened"
