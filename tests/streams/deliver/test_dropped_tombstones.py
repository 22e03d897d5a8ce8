"""An erasure that the FHIR server forbade at first is finished after Apache Kafka has dropped its tombstones."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of
from fhirline.streams.operate.erasure.server import at_server
from fhirline.topics.declared import canonical_topic
from tests.streams.deliver.test_erasure import KEY, forget, remaining
from tests.streams.deliver.test_fill_erasure import QUICK
from tests.support.delivery import (
    Erasable,
    delivering,
    erasable,
    filled,
    letters,
    run_command,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.ehr.server import EhrServer
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.waiting import wait_until

AT_ONCE = {"segment.ms": "100", "delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0.0"}
"""Settings of a topic that drops a tombstone as soon as its segment has ended; a day is the default."""


@pytest.mark.long
def test_an_erasure_that_waits_outlives_its_tombstones(ehr_server: EhrServers) -> None:
    """One patient's is resumed, another one's is found by a fill. Nothing but the state names their resources then."""
    server = ehr_server()
    server.clear()
    with apache(log_cleaner_backoff_ms=100) as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap)
        resumed, refilled, *_ = patients = erasable(settings, of_each=1)
        write(settings, (record for patient in patients for record in patient.records))
        with delivering(settings, server.base, FHIRLINE_DELIVER_CONFLICTS="2", **KEY) as process:
            wait_until_delivered(settings, process)
            for gone in (resumed, refilled):
                refer_to(server, gone)
                assert forget(settings, gone).returncode == 0
            wait_until_delivered(settings, process)
            assert len(waiting(settings)) == 2
            drop_tombstones(settings, resumed.keys | refilled.keys)
            assert server.send("DELETE", f"Flag/{resumed.patient.tenant}").status == 200
            named = ("--patient", min(key for key in resumed.keys if key.startswith("Patient/")))
            assert run_command("deliver", "resume", *named, settings=settings).returncode == 0
            wait_until(lambda: len(waiting(settings)) == 1 or not process.running, process.output)
            wait_until(lambda: not remaining(server, resumed) or not process.running, process.output)
        assert remaining(server, refilled) == sorted(refilled.keys)
        assert server.send("DELETE", f"Flag/{refilled.patient.tenant}").status == 200
        assert f", {len(refilled.keys)} deleted, " in filled(settings, server.base, environ=QUICK)
        assert waiting(settings) == []
        assert [remaining(server, gone) for gone in (resumed, refilled)] == [[], []]
        assert {letter["status"] for letter in letters(settings).values()} == {409}
        for gone in (resumed, refilled):
            assert at_server(settings, gone.keys) == {"purged": len(gone.keys)}


def refer_to(server: EhrServer, gone: Erasable) -> None:
    """Let a resource of somebody else refer to the patient, which forbids the DELETE."""
    id = gone.patient.tenant
    subject = {"reference": min(key for key in gone.keys if key.startswith("Patient/"))}
    flag = {"resourceType": "Flag", "id": id, "status": "active", "code": {"text": "another's"}, "subject": subject}
    assert server.send("PUT", f"Flag/{id}", flag).status == 201


def drop_tombstones(settings: Settings, keys: set[str]) -> None:
    """Have Kafka compact the topics of these keys, and wait until it holds no record of them.

    Only a segment that has ended is compacted, and it ends with a later record: of a key that nobody reads.
    """
    topics = {canonical_topic(key.partition("/")[0]) for key in keys}
    admin = AdminClient(librdkafka(settings))
    own = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in AT_ONCE.items()]
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=own) for topic in topics]
    for future in admin.incremental_alter_configs(resources).values():
        future.result()
    producer = Producer(librdkafka(settings))

    def dropped() -> bool:
        with Scanner(settings) as scanner:
            places: dict[TopicPartition, int | None] = dict.fromkeys(scanner.topic_partitions(topics))
            left = {partition_of(item) for item in scanner.read(places) if (item.key() or b"").decode() in keys}
        for place in left:
            producer.produce(place.topic, b"{}", b"Flag/nobody", place.partition)
        producer.flush()
        return not left

    wait_until(dropped, "Kafka keeps the tombstones")
