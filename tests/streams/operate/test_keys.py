"""``fhirline keys``: nothing that a process needs is destroyed, and a lost key does not stop the rest."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, KeyRing
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, parse, wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.keys import secrets_file
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import KEYS
from tests.support import cli
from tests.support.encryption import ENCRYPTION, INDEX, NEW, ROTATED
from tests.support.kafka.brokers import RunningBroker
from tests.support.receiving import GatewayProcess, post_until_taken, running_gateway
from tests.support.waiting import wait_until
from tests.support.workload import produce

AT = b"2026-11-27T12:00:00Z"


def made(secrets: EncryptionSecrets, count: int) -> list[ProducerRecord]:
    """Make data keys of as many patients."""
    return [DataKey.new(secrets, secrets.index(f"mediquo|acme|{number}"), 0).record(0) for number in range(count)]


def with_secrets(broker: RunningBroker, text: str) -> Settings:
    return broker.settings(encryption=SecretStr(text))


def last_values(settings: Settings) -> dict[bytes, bytes]:
    """Return what ``normalizer.keys`` has after compaction."""
    found: dict[bytes, bytes | None] = {}
    with LogScanner(settings) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([KEYS]))):
            found[message.key() or b""] = message.value()
    return {key: value for key, value in found.items() if value is not None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "encryption"
    path.write_text(ROTATED)
    path.chmod(0o640)
    return path


@pytest.fixture
def keys(own_broker: RunningBroker, file: Path) -> Callable[..., str]:
    environment = {**os.environ, "FHIRLINE_BOOTSTRAP": own_broker.bootstrap, "FHIRLINE_ENCRYPTION_FILE": str(file)}

    def run(*arguments: str, code: int = 0) -> str:
        done = cli.run("keys", *arguments, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_a_lost_key_encryption_key_does_not_keep_the_rest_from_being_wrapped(
    own_broker: RunningBroker, keys: Callable[..., str]
) -> None:
    lost = made(parse(f"index:{INDEX} lost:{'44' * 32}"), 1)
    others = made(parse(ENCRYPTION), 5)
    produce(own_broker.settings(), [others[0], *lost, *others[1:]])
    assert "lost: 1" in keys("rewrap", "--yes", code=1)
    found = last_values(own_broker.settings())
    assert {wrapped_by(found[key.key]) for key in others} == {"2026-11"}
    assert found[lost[0].key] == lost[0].value


def test_a_key_that_is_destroyed_while_it_is_wrapped_anew_is_removed_and_reported(
    own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_secrets(own_broker, ROTATED)
    gone, kept = made(parse(ENCRYPTION), 2)
    produce(settings, [gone, kept])
    publish, marker = RecordPublisher.publish, gone.key + f"/{DESTROYED}".encode()

    def beside_an_erasure(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if marker not in last_values(settings):
            produce(settings, [ProducerRecord(KEYS, marker, AT, 0), ProducerRecord(KEYS, gone.key, None, 0)])
        return publish(self, records, delivered)

    monkeypatch.setattr(RecordPublisher, "publish", beside_an_erasure)
    with closing(DataKeys(settings, parse(ROTATED))) as data_keys:
        done = data_keys.rewrap()
    assert (done.wrapped, done.removed, done.destroyed_meanwhile) == (2, 1, 1)
    assert last_values(settings).keys() == {marker, kept.key}


def test_a_key_encryption_key_that_is_not_activated_yet_is_not_destroyed(
    own_broker: RunningBroker, keys: Callable[..., str], file: Path
) -> None:
    """It wraps nothing, as an old one does that nothing needs: its copies on other machines would be of no use."""
    [key] = made(parse(ENCRYPTION), 1)
    produce(own_broker.settings(), [key])
    file.write_text(f"{ENCRYPTION} 2026-11:{NEW}")
    before = file.read_text()
    assert "left: 2026-11" in keys("destroy-old", "--yes", "--unused-for", "0", code=1)
    assert "2026-05: not in" in keys("destroy-old", "--yes", "--kek", "2026-05", code=2)
    assert file.read_text() == before
    assert "removed: 2026-11" in keys("destroy-old", "--yes", "--kek", "2026-11")
    assert [*secrets_file.read(file).keks] == ["2026-05"]


def test_the_file_keeps_its_mode_and_the_link_that_leads_to_it(file: Path, tmp_path: Path) -> None:
    """A gateway of another user reads it by its group."""
    link = tmp_path / "link"
    link.symlink_to(file)
    secrets_file.add_key(link, "2027-01")
    secrets_file.remove(link, {"2026-05"})
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [*secrets_file.read(file).keks] == ["2026-11", "2027-01"]


@pytest.mark.long
def test_a_rotation_loses_no_event_of_a_gateway_that_goes_on_with_the_older_file(
    own_broker: RunningBroker, keys: Callable[..., str], file: Path, tmp_path: Path
) -> None:
    file.write_text(ENCRYPTION)
    secrets = {"FHIRLINE_ENCRYPTION_FILE": str(file)}
    posted, written, stop = list[str](), Counter[str](), threading.Event()

    def post(gateway: GatewayProcess) -> None:
        while not stop.is_set():
            survey = f"s-{len(posted)}"
            posted.append(survey)
            post_until_taken(gateway, content={"survey_id": survey})

    def posting(gateway: GatewayProcess, during: Callable[[], object]) -> None:
        stop.clear()
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(post, gateway)
            before = len(posted)
            wait_until(lambda: len(posted) > before + 3 or done.done(), "no event is posted")
            during()
            meanwhile = len(posted)
            wait_until(lambda: len(posted) > meanwhile + 3 or done.done(), "no event is posted")
            stop.set()
            done.result()

    def rotate() -> None:
        keys("rotate", "--kek", "2026-11", "--yes")
        keys("rotate", "--activate", "2026-11", "--yes")
        keys("rewrap", "--yes")

    with running_gateway(own_broker.bootstrap, tmp_path, **secrets) as older:
        posting(older, rotate)
    written.update(map(wrapped_by, last_values(own_broker.settings()).values()))
    assert written["2026-11"], "nothing was wrapped anew"
    assert written["2026-05"], "the gateway did not go on with the older file"
    assert "would be lost" in keys("destroy-old", "--yes", "--unused-for", "0", code=1)
    with running_gateway(own_broker.bootstrap, tmp_path, **secrets) as newer:
        posting(newer, lambda: keys("rewrap", "--yes"))
    assert "within 24 hours" in keys("destroy-old", "--yes", code=1)
    assert "removed: 2026-05" in keys("destroy-old", "--yes", "--unused-for", "0")
    with Scanner(own_broker.settings(encryption_file=file)) as scanner:
        read = [
            item.value() or b"" for item in scanner.read(dict.fromkeys(scanner.topic_partitions(["raw.infermedica"])))
        ]
    assert {orjson.loads(value)["content"]["survey_id"] for value in read} == {*posted}


def test_keys_of_one_partition_are_in_memory_at_a_time(own_broker: RunningBroker) -> None:
    """A deployment of years has more than a process should hold."""
    settings, secrets = with_secrets(own_broker, ENCRYPTION), parse(ENCRYPTION)
    partitions = range(settings.partitions)
    held = [DataKey.new(secrets, secrets.index(f"mediquo|acme|{number}"), number) for number in partitions]
    produce(settings, [key.record(number) for number, key in enumerate(held)])
    ring = KeyRing(settings, secrets)
    with closing(ring):
        for number, keys in ring.each(partitions):
            assert [*keys.wrapped] == [held[number].name]
            assert [ring.has(place, key.index, key.number) for place, key in enumerate(held)] == [
                place == number for place in partitions
            ]
