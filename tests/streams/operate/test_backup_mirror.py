"""The runbook's properties of MirrorMaker 2, run by MirrorMaker 2: what it copies is what there was, and opens."""

from collections.abc import Mapping

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition
from fhirline.topics.declared import ERASED, KEYS
from tests.streams.operate.test_backup import RUNBOOK, SECRETS, backed_up, told
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.kafka.mirror_maker import mirroring
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

PROPERTIES = RUNBOOK.partition("```properties\n")[2].partition("```")[0]
ONE_BROKER = RUNBOOK.partition("fewer than three brokers")[2].partition("```properties\n")[2].partition("```")[0]
LARGE = 3_000_000
"""Bytes of an event: more than Kafka's clients send unless they are told to."""


def mirrored(settings: Settings) -> list[ConsumerRecord]:
    """Return the records that the properties name."""
    return [record for record in backed_up(settings) if record.topic.startswith(("raw.", KEYS, ERASED))]


def in_order(records: list[ConsumerRecord]) -> dict[TopicPartition, list[tuple[object, ...]]]:
    """Return what records have in common with their copies, in the order of each partition."""
    found: dict[TopicPartition, list[tuple[object, ...]]] = {}
    for record in sorted(records, key=lambda record: record.position):
        found.setdefault(record.topic_partition, []).append(told(record))
    return found


def copy(servers: Mapping[str, str], to: Settings, expected: list[ConsumerRecord]) -> None:
    with mirroring(PROPERTIES + ONE_BROKER, servers) as mirror:
        wait_until(
            lambda: len(mirrored(to)) >= len(expected) or not mirror.running or "Exception" in mirror.output,
            "the records are not copied",
        )
        assert mirror.running, mirror.output
        assert in_order(mirrored(to)) == in_order(expected), mirror.output


@pytest.mark.long
def test_mirror_maker_copies_encrypted_topics_and_restores_them() -> None:
    assert PROPERTIES
    assert ONE_BROKER
    with apache() as live, apache() as backup:
        create_topics(live.bootstrap)
        old = settings_for(live.bootstrap, session_timeout=6, encryption=ENCRYPTION)
        kept = settings_for(backup.bootstrap, session_timeout=6, encryption=ENCRYPTION)
        made = [*events(60, seed=11)]
        large = made[0]
        filled = (large.value or b"").replace(b"{", b'{"filler": "' + b"x" * LARGE + b'",', 1)
        made.append(ProducerRecord(large.topic, large.key, filled, None, large.headers, large.timestamp_ms))
        keys, raws = sealed(old, made)
        gone = ProducerRecord(KEYS, b"removed", None, 0)
        produce(old, [*keys, gone, ProducerRecord(ERASED, b"removed", None, 0)])
        written = produce(old, raws)
        backed = mirrored(old)
        assert any(len(record.value or b"") > LARGE for record in backed)
        copy({"live": live.bootstrap, "backup": backup.bootstrap}, kept, backed)
        expected = undisturbed(old, written)
        live.close()
        with apache() as new:
            create_topics(new.bootstrap)
            restored = settings_for(new.bootstrap, session_timeout=6, encryption=ENCRYPTION)
            copy({"live": backup.bootstrap, "backup": new.bootstrap}, restored, backed)
            store = Store(restored)
            with running(restored, **SECRETS) as worker:
                wait_until_as(expected, store, worker)
                assert worker.stop() == 0, worker.output
            store.close()
