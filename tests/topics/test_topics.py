"""The declared topics: their contracts, their partitions, and how they are created and altered on real brokers."""

import socket
from dataclasses import replace
from uuid import uuid4

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from fhirline.config.errors import KafkaUnreachable
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.clients import kafka_python, producer_config
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import (
    BUNDLE,
    ENRICHED,
    FOREVER,
    OUTCOME,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    Topic,
    canonical_topic,
    dead_letter_topic,
    declared,
    raw_topic,
    state_topic,
)
from fhirline.topics.partition import murmur2, partition_for
from fhirline.topics.plan import Action, Existing, compare
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT

NOWHERE = "127.0.0.1:9"
PARTITIONS = 5


def topic(name: str, **more: object) -> Topic:
    made = Topic(name, PARTITIONS, 1, "compact", 1_048_576, "key", "for a test")
    return replace(made, **more)  # type: ignore[arg-type]  # any of its fields


def as_declared(of: Topic) -> Existing:
    return Existing(of.name, of.partitions, of.replication_factor, of.config)


# What is declared


def test_every_topic_is_declared_once_and_says_what_its_key_is() -> None:
    topics = declared(settings_for(NOWHERE))
    names = [item.name for item in topics]
    assert len(names) == len(set(names))
    assert all(item.key and item.description for item in topics)
    for vendor in VENDORS:
        assert {raw_topic(vendor), state_topic(vendor), dead_letter_topic(vendor)} <= set(names)
    assert {canonical_topic(item) for item in RESOURCE_TYPES} | {BUNDLE, OUTCOME, "raw.infermedica.enriched"} <= set(
        names
    )


def test_topics_that_belong_together_have_one_number_of_partitions() -> None:
    topics = {item.name: item for item in declared(settings_for(NOWHERE, partitions=12, replication_factor=3))}
    together = [name for name in topics if name.startswith(("raw.", "fhir.r4.", "fold.", "normalizer.state."))]
    assert len(together) == len(RESOURCE_TYPES) + 2 + 2 * (len(VENDORS) + len(ENRICHED))
    assert {topics[name].partitions for name in together} == {12}
    assert {item.replication_factor for item in topics.values()} == {3}


def test_nothing_that_cannot_be_made_again_is_ever_deleted() -> None:
    for item in declared(settings_for(NOWHERE)):
        kept_whole = item.name.startswith(("raw.", "dead-letter.", "delivery."))
        compacted = item.name.startswith(("normalizer.", "fhir.r4.", "fold."))
        if kept_whole:
            assert (item.cleanup, item.retention) == ("delete", FOREVER), item.name
        elif item.name in (BUNDLE, OUTCOME):
            assert (item.cleanup, item.growable) == ("delete", item.name == OUTCOME)
        else:
            assert compacted
            assert (item.cleanup, item.growable) == ("compact", False), item.name


def test_records_as_large_as_a_producer_may_send_fit() -> None:
    settings = settings_for(NOWHERE, message_max_bytes=123_456)
    assert {item.config["max.message.bytes"] for item in declared(settings)} == {"123456"}
    assert producer_config(settings)["message.max.bytes"] == 123_456


def test_topics_and_mappers_agree_on_what_belongs_to_no_patient() -> None:
    assert set(RESOURCE_TYPES) >= PATIENTLESS_TYPES


# Partitions of keys


@pytest.mark.parametrize(
    ("data", "hashed"),
    [  # Apache Kafka, clients, UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, hashed: int) -> None:
    assert murmur2(data) == hashed % 2**32


@given(st.text(), st.integers(1, 10_000))
def test_text_is_partitioned_as_its_utf8_bytes(key: str, partitions: int) -> None:
    assert partition_for(key, partitions) == partition_for(key.encode(), partitions) < partitions


def test_every_client_puts_a_key_where_we_say(broker: RunningBroker) -> None:
    """librdkafka and kafka-python choose by themselves, as the broker has acknowledged it."""
    name = f"test.partitions.{uuid4()}"
    keys = [f"mediquo|default|{'x' * (n % 9)}é{n}".encode() for n in range(60)]
    expected = {key: partition_for(key, PARTITIONS) for key in keys}
    assert len(set(expected.values())) == PARTITIONS
    settings = broker.settings()
    with Cluster(kafka_python(settings), timeout=LIMIT) as cluster:
        assert cluster.apply(cluster.plan([topic(name)])).complete

    chosen: dict[bytes | None, int | None] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        chosen[message.key()] = message.partition()

    producer = patient_producer(settings)
    for key in keys:
        producer.produce(name, key=key, value=b"1", on_delivery=delivered)
    assert producer.flush(LIMIT) == 0
    assert chosen == expected

    other = KafkaProducer(bootstrap_servers=broker.bootstrap)
    try:
        sent = {key: other.send(name, key=key, value=b"2") for key in keys}
        assert {key: item.get(timeout=LIMIT).partition for key, item in sent.items()} == expected
    finally:
        other.close()


# What differs: pure


def test_nothing_differs_where_all_is_as_declared() -> None:
    topics = declared(settings_for(NOWHERE))
    plan = compare(topics, {item.name: as_declared(item) for item in topics})
    assert not plan.differences
    assert not plan.unreported


@pytest.mark.parametrize("name", [raw_topic("mediquo"), canonical_topic("Patient"), state_topic("altibbi"), BUNDLE])
def test_fewer_partitions_of_a_keyed_topic_are_a_conflict_that_says_why(name: str) -> None:
    topics = [item for item in declared(settings_for(NOWHERE, partitions=6)) if item.name == name]
    plan = compare(topics, {name: replace(as_declared(topics[0]), partitions=4)})
    (found,) = plan.differences
    assert (found.what, found.declared, found.actual, found.action) == ("partitions", "6", "4", Action.REFUSE)
    assert "a key never moves" in found.reason
    assert "FHIRLINE_PARTITIONS=4" in found.reason


def test_fewer_partitions_of_a_topic_nobody_reads_by_key_are_added() -> None:
    topics = [item for item in declared(settings_for(NOWHERE, partitions=6)) if item.name == OUTCOME]
    plan = compare(topics, {OUTCOME: replace(as_declared(topics[0]), partitions=4)})
    assert [difference.action for difference in plan.differences] == [Action.GROW]


def test_a_number_that_keyed_topics_contradict_makes_no_partition_anywhere() -> None:
    """FHIRLINE_PARTITIONS set to 7 by mistake: what was grown or created with it could never be taken back."""
    topics = declared(settings_for(NOWHERE, partitions=7))
    six = {item.name: replace(as_declared(item), partitions=6) for item in topics if item.name != "raw.mediquo"}
    plan = compare(topics, six)
    assert plan.refused == plan.differences
    assert {
        difference.reason for difference in plan.differences if difference.topic.name in ("raw.mediquo", OUTCOME)
    } == {"waits until FHIRLINE_PARTITIONS is what keyed topics have"}


def test_settings_that_a_broker_does_not_tell_are_no_difference() -> None:
    one = topic("one")
    plan = compare([one], {"one": replace(as_declared(one), config={})})
    assert not plan.differences
    assert plan.unreported == (one,)


# What differs: real brokers


def test_apply_creates_once_and_then_finds_nothing_to_do(broker: RunningBroker) -> None:
    name = f"test.create.{uuid4()}"
    topics = [topic(f"{name}.compact"), topic(f"{name}.delete", cleanup="delete", retention=FOREVER)]
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        plan = cluster.plan(topics)
        assert [difference.action for difference in plan.differences] == [Action.CREATE, Action.CREATE]
        assert cluster.apply(plan).complete
        assert cluster.apply(plan).complete, "a plan that somebody else has carried out is no failure"
        assert cluster.read(topics).keys() == {item.name for item in topics}
        again = cluster.plan(topics)
        assert not again.differences
        if broker.kind == "apache":
            assert not again.unreported
        applied = cluster.apply(again)
        assert applied.complete
        assert not applied.done


def test_a_setting_that_differs_is_found_and_altered(broker: RunningBroker) -> None:
    earlier = topic(f"test.setting.{uuid4()}", cleanup="delete", retention=1_000)
    now = replace(earlier, cleanup="compact", retention=None, max_message_bytes=2_097_152)
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        cluster.apply(cluster.plan([earlier]))
        plan = cluster.plan([now])
        assert {
            (difference.what, difference.actual, difference.declared, difference.action)
            for difference in plan.differences
        } == {
            ("cleanup.policy", "delete", "compact", Action.ALTER),
            ("max.message.bytes", "1048576", "2097152", Action.ALTER),
        }
        assert cluster.apply(plan).complete
        assert not cluster.plan([now]).differences
        if broker.kind == "apache":
            assert cluster.read([now])[now.name].config["retention.ms"] == "1000", "others' settings stay"


@pytest.mark.parametrize("wanted", [PARTITIONS - 2, PARTITIONS + 2])
def test_a_keyed_topic_keeps_its_partitions(broker: RunningBroker, wanted: int) -> None:
    made = topic(f"test.fixed.{uuid4()}")
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        cluster.apply(cluster.plan([made]))
        plan = cluster.plan([replace(made, partitions=wanted)])
        applied = cluster.apply(plan)
        assert [item.what for item in applied.refused] == ["partitions"]
        assert not applied.complete
        assert not applied.done
        assert cluster.read([made])[made.name].partitions == PARTITIONS


def test_a_growable_topic_grows_and_never_shrinks(broker: RunningBroker) -> None:
    made = topic(f"test.growing.{uuid4()}", growable=True)
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        cluster.apply(cluster.plan([made]))
        applied = cluster.apply(cluster.plan([replace(made, partitions=PARTITIONS + 2)]))
        if broker.kind == "embedded":  # it has no CreatePartitions
            assert [reason for _, reason in applied.failed] == ["this broker does not offer it"]
            return
        assert applied.complete
        assert cluster.read([made])[made.name].partitions == PARTITIONS + 2
        (found,) = cluster.plan([made]).differences
        assert found.action is Action.REFUSE
        assert "never shrinks" in found.reason
        assert cluster.apply(cluster.plan([made])).refused == (found,)
        assert cluster.read([made])[made.name].partitions == PARTITIONS + 2


def test_what_the_cluster_refuses_is_told_in_its_words(apache_kafka: RunningBroker) -> None:
    impossible = topic(f"test.replicas.{uuid4()}", replication_factor=3)
    possible = topic(f"test.replicas.{uuid4()}")
    with Cluster(kafka_python(apache_kafka.settings()), timeout=LIMIT) as cluster:
        applied = cluster.apply(cluster.plan([impossible, possible]))
        assert [item.topic for item in applied.done] == [possible]
        ((failed, reason),) = applied.failed
        assert failed.topic == impossible
        assert reason.startswith("InvalidReplicationFactor: ")


def test_a_cluster_that_does_not_answer_is_one_clear_line() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(KafkaUnreachable, match=rf"FHIRLINE_BOOTSTRAP: no Kafka broker answered at {address}"),
            Cluster({"bootstrap_servers": [address]}, timeout=0.3),
        ):
            pytest.fail("something answered")
