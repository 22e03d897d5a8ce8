"""``fhirline keys give-up``: a lost data key stops a worker, and given up it stops nothing more."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.encryption.secrets import DataKeyDamaged, WrappingKeyMissing
from fhirline.streams.kafka.headers import KEY_ID, RAW, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.operate.keys import give_up
from fhirline.topics.declared import KEYS, dead_letter_topic, raw_topic, state_topic
from tests.streams.operate.keys.plain import of_few, opened, stored
from tests.support import cli
from tests.support.encryption import ENCRYPTION, INDEX, NEW, Sealer, sealed, secrets_of
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

LONG_AGO_MS = 1_700_000_000_000
VENDOR = "altibbi"
Run = Callable[..., str]


@pytest.fixture
def keys(settings: Settings) -> Run:
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_PARTITIONS": str(settings.partitions),
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
    }

    def run(*arguments: str, code: int = 0, encryption: str = ENCRYPTION) -> str:
        done = cli.run("keys", *arguments, env={**environment, "FHIRLINE_ENCRYPTION": encryption})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def old(records: list[ProducerRecord]) -> list[ProducerRecord]:
    """Let records be of long ago, when no gateway can use their data keys any more."""
    return [replace(record, timestamp_ms=LONG_AGO_MS) for record in records]


def marked(settings: Settings) -> dict[str, ConsumerRecord]:
    found = {(record.key or b"").decode(): record for record in stored(settings, KEYS)}
    return {name: record for name, record in found.items() if name.endswith(f"/{DESTROYED}")}


@pytest.mark.long
def test_a_worker_ends_uncommitted_and_goes_on_once_the_lost_key_is_given_up(settings: Settings, keys: Run) -> None:
    made = [event for event in events(120, seed=9) if event.topic == raw_topic(VENDOR)]
    key_records, raws = sealed(settings, old(made))
    lost = next(raw.data_key for raw in raws if raw.data_key and sum(r.data_key == raw.data_key for r in raws) > 1)
    mine = [raw for raw in raws if raw.data_key == lost]
    produce(settings, [record for record in key_records if record.key != lost.name.encode()])
    written = produce(settings, raws)
    first = min(item.position for item in stored(settings, raw_topic(VENDOR)) if item.key == lost.index.encode())
    secrets = {"FHIRLINE_ENCRYPTION": ENCRYPTION, "FHIRLINE_PARTITIONS": str(settings.partitions)}
    with running(settings, **secrets) as worker:
        wait_until(lambda: not worker.running, "the worker goes on")
        assert f"{first} cannot be opened" in "\n".join(worker.printed)
    said = keys("give-up", str(first), "--dry-run")
    assert lost.name in said
    assert f"{raw_topic(VENDOR)}\t{len(mine)}\t{first.partition}/{first.offset}\t" in said
    assert marked(settings) == {}
    assert "--reason: required" in keys("give-up", str(first), "--yes", code=2)
    assert "--yes: required" in keys("give-up", str(first), "--reason", "a test", code=2)
    said = keys("give-up", lost.name, "--yes", "--reason", "a broken disk", "--as", "Ann")
    [line] = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (line["event"], line["data_key"], line["reason"]) == ("data keys given up", lost.number, "a broken disk")
    assert lost.index not in orjson.dumps(line).decode()
    [(name, marker)] = marked(settings).items()
    assert (name, marker.partition) == (f"{lost.name}/{DESTROYED}", mine[0].partition)
    assert (marker.value or b"").endswith(b"Z")
    left = [raw for raw in written if raw.key not in {record.key for record in mine}]
    assert len(left) == len(written) - len(mine)
    store = Store(settings)
    with running(settings, **secrets) as worker:
        wait_until_as(undisturbed(settings, left), store, worker)
        wait_until(
            lambda: "\n".join(worker.printed).count("erased patient passed over") > 0, "the events were not passed over"
        )
        later = produce(settings, [replace(mine[0], data_key=None)])  # with another data key of the patient
        wait_until_as(undisturbed(settings, [*left, *later]), store, worker)
        assert worker.running
    store.close()
    assert f"data key {lost.number}: is destroyed already" in keys(
        "give-up", lost.name, "--yes", "--reason", "again", code=2
    )


def test_letters_and_the_last_state_entries_are_counted_too(settings: Settings, keys: Run) -> None:
    sealer = Sealer(settings)
    raw = sealer(of_few(1, seed=4)[0])
    key = raw.data_key
    assert key
    vendor, place = raw.topic.removeprefix("raw."), raw.partition or 0
    other = DataKey.new(key.secrets, key.index, place)
    letter = ProducerRecord(
        dead_letter_topic(vendor), raw.key, b"{}", place, [(RAW, f"{raw.topic}/{place}/0".encode())]
    )

    def entry(name: str, data_key: DataKey) -> ProducerRecord:
        plain = ProducerRecord(state_topic(vendor), orjson.dumps(["p", "Patient/1", name]), b"{}", place)
        return data_key.seal(plain)

    records = [key.seal(replace(raw, timestamp_ms=LONG_AGO_MS)), key.seal(letter), entry("one", key), entry("two", key)]
    produce(settings, [other.record(place), *records, entry("two", other)])
    said = keys("give-up", key.name, "--dry-run")
    for topic, count in ((raw.topic, 1), (dead_letter_topic(vendor), 1), (state_topic(vendor), 1)):
        assert f"{topic}\t{count}\t{place}/" in said
    assert header(stored(settings, raw.topic)[0].headers, KEY_ID) == key.number


@pytest.mark.long
def test_nothing_is_given_up_that_is_not_lost_or_that_a_gateway_may_use(settings: Settings, keys: Run) -> None:
    event, fresh = of_few(2, seed=4)
    [key_record], [raw] = sealed(settings, old([event]))
    produce(settings, [key_record, raw])
    assert raw.data_key
    yes = ("--yes", "--reason", "a test")
    assert "can be unwrapped: it is not lost" in keys("give-up", raw.data_key.name, *yes, code=2)
    for wrong in ("x", f"{raw.data_key.index}/{'0' * 32}", "raw.mediquo/0/999999", "raw.mediquo/77/0"):
        keys("give-up", wrong, *yes, code=2)
    keys("give-up", *yes, code=2)
    unused = DataKey.new(raw.data_key.secrets, raw.data_key.index, raw.partition or 0)
    assert "no record is encrypted" in keys("give-up", unused.name, *yes, code=1)
    _, [in_use] = sealed(settings, [replace(fresh, timestamp_ms=time.time_ns() // 1_000_000)])
    assert in_use.data_key
    produce(settings, [in_use.data_key.seal(in_use)])
    said = keys("give-up", in_use.data_key.name, *yes, code=1)
    assert "a gateway may use this key until" in said
    assert '"event"' not in said
    assert marked(settings) == {}
    keys("give-up", in_use.data_key.name, *yes, "--restarted")
    assert [*marked(settings)] == [f"{in_use.data_key.name}/{DESTROYED}"]


def test_all_data_keys_of_a_lost_key_encryption_key_are_given_up_together(settings: Settings, keys: Run) -> None:
    key_records, raws = sealed(settings, old(of_few(6, seed=4)))
    produce(settings, [*key_records, *raws])
    yes = ("--yes", "--reason", "a test")
    assert "it is not lost" in keys("give-up", "--kek", "2026-05", *yes, code=2)
    assert "wraps no living data key" in keys("give-up", "--kek", "2026-04", *yes, code=2)
    without = ENCRYPTION.replace("2026-05:", "2026-11:").replace("22" * 32, NEW)
    assert marked(settings) == {}
    assert '"kek"' in keys("give-up", "--kek", "2026-05", *yes, encryption=without)
    assert marked(settings).keys() == {f"{record.key.decode()}/{DESTROYED}" for record in key_records}
    assert {item.partition for item in marked(settings).values()} <= {0, 1}
    assert "wraps no living data key" in keys("give-up", "--kek", "2026-05", *yes, encryption=without, code=2)
    assert give_up.markers({"a/b": 1}, "now") == [ProducerRecord(KEYS, b"a/b/destroyed", b"now", 1)]


def test_a_data_key_of_another_index_secret_is_given_up_by_its_event(settings: Settings, keys: Run) -> None:
    """A gateway with the wrong secrets has written an event: with the right ones nobody can go past it."""
    wrong = settings.model_copy(update={"encryption": SecretStr(ENCRYPTION.replace(INDEX, "55" * 32))})
    event = of_few(1, seed=4)[0]
    [key_record], [raw] = sealed(wrong, old([event]))
    produce(settings, [key_record])
    [foreign] = produce(settings, [raw])
    with pytest.raises(WrappingKeyMissing, match="index secret is another"):
        opened(settings, event.topic)
    own_keys, [own] = sealed(settings, old([event]))
    produce(settings, own_keys)
    [written] = produce(settings, [own])
    with pytest.raises(WrappingKeyMissing, match=f"index secret is another than the one that {foreign.position}"):
        opened(settings, event.topic)
    assert "given up" in keys("give-up", str(foreign.position), "--yes", "--reason", "a gateway with wrong secrets")
    assert [record.position for record in opened(settings, event.topic)] == [written.position]


def test_a_data_key_whose_record_was_overwritten_is_named_and_given_up(settings: Settings, keys: Run) -> None:
    [key_record], [raw] = sealed(settings, old(of_few(1, seed=4)))
    secrets = secrets_of(settings)
    short = secrets.wrap(key_record.key.decode(), b"short")
    for value in (b"junk", b'{"kek": "2026-05"}', short):
        produce(settings, [replace(key_record, value=value)])
    [written] = produce(settings, [raw])
    assert raw.data_key
    with pytest.raises(DataKeyDamaged, match=rf"{written.position} cannot be opened: .*{raw.data_key.number}"):
        opened(settings, raw.topic)
    keys("give-up", str(written.position), "--yes", "--reason", "overwritten, no backup")
    assert opened(settings, raw.topic) == []
    odd = replace(raw.data_key.seal(raw), headers=[(KEY_ID, b"\x1b[2J")])
    [named] = produce(settings, [odd])
    said = keys("give-up", str(named.position), "--yes", "--reason", "x", code=2)
    assert "has another form: no data key is missing" in said
    assert "\x1b" not in said
