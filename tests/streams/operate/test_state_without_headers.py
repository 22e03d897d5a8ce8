"""State entries that have lost their headers, as a mirror may lose them, and records of other producers among them."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.mappers.results import Entry
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent, position_of
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.keys.existing.run import Migration
from fhirline.streams.step3_restore.state import PartitionState, StateCache
from fhirline.topics.declared import raw_topic, state_topic
from tests.streams.operate.keys.plain import Plain
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.erasure import SECRET, busiest
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.replaying import replay
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, events, produce, undisturbed

VENDOR, PARTITIONS = "altibbi", 2
STATE = state_topic(VENDOR)
OWN = {
    "FHIRLINE_ENCRYPTION": ENCRYPTION,
    "FHIRLINE_ERASURE_KEY": SECRET,
    "FHIRLINE_PARTITIONS": str(PARTITIONS),
}


@pytest.fixture
def settings() -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, partitions=PARTITIONS)
        yield RunningBroker("embedded", broker.bootstrap).settings(
            session_timeout=6,
            partitions=PARTITIONS,
            encryption=SecretStr(ENCRYPTION),
            erasure_key=SecretStr(SECRET),
            validation="off",
        )


def last(settings: Settings) -> dict[bytes, ConsumerRecord]:
    """Return what compaction leaves of the state topic."""
    found: dict[tuple[int, bytes], ConsumerRecord] = {}
    with LogScanner(settings) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([STATE]))):
            record = from_confluent(message)
            found[record.partition, record.key or b""] = record
    return {key: record for (_, key), record in found.items() if record.value is not None}


def without_headers(settings: Settings) -> list[ConsumerRecord]:
    """Write each encrypted entry once more, without its headers, and what no release of ours has written."""
    entries = [record for record in last(settings).values() if is_sealed(record)]
    assert entries
    again = [ProducerRecord(STATE, item.key or b"", item.value, item.partition) for item in entries]
    odd = [ProducerRecord(STATE, key, b"junk", 0) for key in (b"", b"junk", b"0" * 64, b'["a|1","Patient/1","name"]')]
    return produce(settings, [*again, *odd])


def restored(settings: Settings) -> dict[int, dict[str, dict[str, Entry]]]:
    """Return the state that a worker restores once compaction has left the last record of each key."""
    left = {record.position for record in last(settings).values()}

    class Compacted(StateCache):
        def take(self, state: PartitionState, message: Message, began: float) -> None:
            if position_of(message) in left:
                super().take(state, message, began)

    with closing(Opener(settings)) as opener:
        cache = Compacted(settings, STATE, opener=opener)
        cache.restore(range(PARTITIONS))
        states = {number: cache.partition(number) for number in range(PARTITIONS)}
        return {number: {name: dict(state(name)) for name in state._subjects} for number, state in states.items()}


@pytest.fixture
def mapped(settings: Settings) -> list[ConsumerRecord]:
    """Encrypted events of one vendor that a worker has mapped."""
    keys, raws = sealed(settings, (event for event in events(120, seed=9) if event.topic == raw_topic(VENDOR)))
    produce(settings, keys)
    written = produce(settings, raws)
    store = Store(settings)
    with running(settings, **OWN) as worker:
        wait_until_as(undisturbed(settings, written), store, worker)
        assert worker.stop() == 0
    store.close()
    return written


@pytest.mark.long
def test_a_replay_writes_them_again(settings: Settings, mapped: list[ConsumerRecord], tmp_path: Path) -> None:
    """Under keys that their copies without headers have covered, too: else compaction would lose them."""
    before = restored(settings)
    without_headers(settings)
    assert restored(settings) != before
    published = replay(settings, tmp_path, "--publish", **OWN)
    assert re.search(r"published, [1-9][0-9]* state entries", published.said), published.said
    assert restored(settings) == before


@pytest.mark.long
def test_an_erasure_removes_them(settings: Settings, mapped: list[ConsumerRecord]) -> None:
    patient = busiest(mapped)[VENDOR]
    without_headers(settings)
    odd = (b"[", b"[1]", b"null", b'["a","b"]')
    produce(
        settings, [ProducerRecord(STATE, key, b"{}", number) for key in odd for number in range(settings.partitions)]
    )
    with closing(Erasure(settings, patient)) as erasure:
        found = erasure.find()
        keys = {key for _, key in found.state}
        assert keys
        assert keys <= last(settings).keys()
        assert erasure.erase(found, 0).complete
    assert not keys & last(settings).keys()
    assert last(settings).keys() >= {*odd}, "what is nobody's stays"


def test_encrypting_what_exists_passes_them_over_and_covers_them(settings: Settings) -> None:
    Plain(settings).write(event for event in events(40, seed=3) if event.topic == raw_topic(VENDOR))
    before = restored(settings)
    plain = [record for key, record in last(settings).items() if not key.startswith(b'["",')]
    assert encrypted_entries(settings) == len(plain) > 0
    assert restored(settings) == before
    without_headers(settings)
    assert restored(settings) != before
    produce(settings, [ProducerRecord(STATE, item.key or b"", item.value, item.partition) for item in plain])
    assert encrypted_entries(settings) >= len(plain)
    assert restored(settings) == before


def encrypted_entries(settings: Settings) -> int:
    with Migration(settings, [VENDOR]) as migration:
        migration.survey()
        return migration.run(keep=True).entries
