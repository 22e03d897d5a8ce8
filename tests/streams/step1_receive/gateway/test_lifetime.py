"""The gateway's start and end, and Kafka down in between."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.streams.step1_receive.gateway.connections import CREDENTIAL, MARKER, raw, status_of
from tests.support.receiving import (
    SURVEY,
    GatewayProcess,
    create_raw_topics,
    post_until_taken,
    record_of,
    running_gateway,
    stored,
)
from tests.support.waiting import LIMIT, wait_until


def test_healthy_and_ready(broker: EmbeddedBroker, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    with running_gateway(broker.bootstrap, tmp_path, "--port-file", str(port_file)) as gateway:
        assert gateway.request("GET", "/healthz").json == {"status": "ok"}
        assert gateway.request("GET", "/readyz").json == {"status": "ready"}
        gateway.post("/webhooks/infermedica", SURVEY)
        assert int(port_file.read_text()) == gateway.port
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(12) == b"HTTP/1.1 200"
            gateway.terminate()
            assert gateway.ended() == 0


@pytest.mark.long
def test_kafka_stops_and_comes_back(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_GATEWAY_DELIVERY_TIMEOUT="1.5") as gateway:
            post_until_taken(gateway)
            broker.stop()
            answer = gateway.post("/webhooks/infermedica", {"event_type": MARKER})
            assert answer.refused == (503, "kafka-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert gateway.request("GET", "/healthz").status == 200
            ready = gateway.request("GET", "/readyz")
            assert ready.status == 503
            assert "FHIRLINE_BOOTSTRAP" in ready.json["problems"][0]
            with EmbeddedBroker(broker.port) as again:
                assert gateway.post("/webhooks/infermedica", SURVEY).refused == (503, "kafka-unavailable")
                assert "raw.infermedica" not in topics_of(again), "a webhook has created the topic"
                create_raw_topics(again)
                event_key = post_until_taken(gateway)
                assert record_of(again.bootstrap, "infermedica", event_key)
                gateway.terminate()
                assert gateway.ended() == 0
            assert MARKER not in gateway.logged


def topics_of(broker: EmbeddedBroker) -> set[str]:
    from confluent_kafka.admin import AdminClient

    return set(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=LIMIT).topics)


@pytest.mark.long
def test_a_broker_that_hangs_and_recovers(tmp_path: Path) -> None:
    """503 for the waiting request, 429 for those beyond the limit in flight, and 202 again afterwards."""
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(
            broker.bootstrap,
            tmp_path,
            FHIRLINE_GATEWAY_DELIVERY_TIMEOUT="6",
            FHIRLINE_MAX_IN_FLIGHT="1",
            FHIRLINE_METRICS_PORT="0",
        ) as gateway:
            post_until_taken(gateway)
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                with ThreadPoolExecutor(1) as thread:
                    first = thread.submit(gateway.post, "/webhooks/infermedica", {"n": 0})
                    wait_until(lambda: waiting(gateway), "no webhook waits for Kafka")
                    others = [gateway.post("/webhooks/infermedica", {"n": n}).status for n in range(1, 5)]
                    assert not first.done(), "the others came too late to say anything"
                    assert first.result().status == 503
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert others == [429, 429, 429, 429]
            post_until_taken(gateway)


def waiting(gateway: GatewayProcess) -> bool:
    return "\nfhirline_webhooks_in_flight 1.0\n" in gateway.metrics


def test_an_event_that_is_too_large_for_kafka(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_MESSAGE_MAX_BYTES="65536") as gateway:
        answer = gateway.post("/webhooks/infermedica", {"event_type": "x" * 70_000})
        assert answer.refused == (413, "record-too-large")
        assert gateway.post("/webhooks/infermedica", SURVEY).status == 202


def test_sigterm_lets_requests_in_flight_finish(broker: EmbeddedBroker, tmp_path: Path) -> None:
    body = b'{"event_type": "last", "content": {"survey_id": "in-flight"}}'
    with running_gateway(broker.bootstrap, tmp_path) as gateway:
        with raw(gateway, "/webhooks/infermedica", CREDENTIAL + f"Content-Length: {len(body)}\r\n") as connection:
            connection.sendall(body[:10])
            assert gateway.request("GET", "/healthz").status == 200  # so the head has been read
            gateway.terminate()
            gateway.event("gateway stopping")
            connection.sendall(body[10:])
            assert status_of(connection) == 202
        assert gateway.ended() == 0
    assert b"default|survey/in-flight" in {item.key() for item in stored(broker.bootstrap, "infermedica")}


def test_a_port_in_use_is_reported_in_one_line(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running_gateway(broker.bootstrap, tmp_path, "--port", port) as gateway:
            assert gateway.ended() == 2
            [line] = [item for item in gateway.logged.splitlines() if item.startswith("fhirline: ")]
            assert "FHIRLINE_GATEWAY_PORT" in line
