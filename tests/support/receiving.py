"""Shared by the tests of gateway and ingest: raw topics on the embedded broker, and the gateway as a process."""

import http.client
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml
from confluent_kafka import Consumer, KafkaError, Message
from kafka.admin import KafkaAdminClient, NewTopic

from fhirline.config.vendors import load_vendors
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.topics.declared import raw_topic
from tests.support.cli import piped
from tests.support.messages import text_headers
from tests.support.paths import CONFIG
from tests.support.waiting import LIMIT

PARTITIONS = 3
SECRETS = {vendor: f"secret-of-{vendor}" for vendor in VENDORS}
CREDENTIALS = {
    name: vendor.defaults.credential for name, vendor in load_vendors().vendors.items() if vendor.defaults.credential
}
HEADER = {name: credential.header for name, credential in CREDENTIALS.items()}
SURVEY = {"event_type": "survey_finished", "content": {"survey_id": "s-1"}}


def create_raw_topics(broker: EmbeddedBroker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        admin.create_topics([NewTopic(raw_topic(vendor), PARTITIONS, 1) for vendor in VENDORS])
    finally:
        admin.close()


def stored(bootstrap: str, vendor: str) -> list[Message]:
    """Every record of a raw topic, each partition read to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        topic = consumer.list_topics(raw_topic(vendor), timeout=LIMIT).topics[raw_topic(vendor)]
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        consumer.assign(
            [TopicPartition(raw_topic(vendor), partition, OFFSET_BEGINNING) for partition in topic.partitions]
        )
        found, left = [], set(topic.partitions)
        while left:
            message = consumer.poll(LIMIT)
            assert message is not None, f"partitions {left} were not read to their end"
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(message.partition())
        return found
    finally:
        consumer.close()


def record_of(bootstrap: str, vendor: str, event_key: str) -> Message:
    """The one record of an event."""
    [found] = [item for item in stored(bootstrap, vendor) if text_headers(item)["event-key"] == event_key]
    return found


def vendors_file(folder: Path) -> Path:
    """The packaged vendors with one tenant more: ``signed``, whose webhooks are signed by HMAC, for each vendor."""
    packaged = CONFIG / "vendors.yaml"
    content = yaml.safe_load(packaged.read_text("utf-8"))
    for vendor in content["vendors"].values():
        vendor["tenants"]["signed"] = {
            "credential": {
                "header": "x-hub-signature-256",
                "scheme": "hmac-sha256",
                "prefix": "sha256=",
                "secrets": ["TEST_SIGNING_OLD", "TEST_SIGNING_NEW"],
            }
        }
        vendor["tenants"]["keyless"] = {"credential": {"header": "x-key", "secrets": ["TEST_NOT_SET_ANYWHERE"]}}
    path = folder / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def environment(bootstrap: str, **more: str) -> dict[str, str]:
    """The environment of a process of ours: nothing of the developer's own settings."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    secrets = {credential.secrets[0]: SECRETS[vendor] for vendor, credential in CREDENTIALS.items()}
    return {**outside, **secrets, "FHIRLINE_BOOTSTRAP": bootstrap, "FHIRLINE_LOG_FORMAT": "json", **more}


class GatewayProcess:
    """``fhirline gateway`` on a free port; ``logged`` is all of its standard error so far."""

    def __init__(self, environ: Mapping[str, str], folder: Path, *options: str) -> None:
        self._lines: list[str] = []
        self._silent = False
        self._changed = threading.Condition()
        self._process = piped(
            *("gateway", "--port", "0", *options),
            env=environ,
            cwd=folder,  # no .env of the developer's
            of=[2],
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def logged(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def line(self, matches: Callable[[dict[str, Any]], bool], timeout: float = LIMIT) -> dict[str, Any]:
        """The first log line that matches, awaited."""
        with self._changed:
            self._changed.wait_for(lambda: self._silent or any(map(matches, self._parsed())), timeout)
            found = next(filter(matches, self._parsed()), None)
            assert found is not None, "\n".join(self._lines)
            return found

    def event(self, name: str) -> dict[str, Any]:
        return self.line(lambda line: line["event"] == name)

    @property
    def port(self) -> int:
        return int(self.event("gateway listening")["url"].rpartition(":")[2])

    @property
    def metrics(self) -> str:
        """The metrics, from the port of their own that ``FHIRLINE_METRICS_PORT=0`` gives."""
        with urllib.request.urlopen(self.event("metrics listening")["url"], timeout=LIMIT) as answer:
            return str(answer.read().decode())

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def ended(self, timeout: float = LIMIT) -> int:
        """Wait until it has ended; its exit code."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.ended()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> "Answer":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> "Answer":
        """POST with the credential of the path's vendor, unless ``headers`` say otherwise (``_`` stands for ``-``)."""
        vendor = path.split("/")[2]
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": "application/json", HEADER.get(vendor, "x"): SECRETS.get(vendor, ""), **named}
        return self.request("POST", path, content, {name: value for name, value in sent.items() if value})

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._silent = True
            self._changed.notify_all()

    def _parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines if line.startswith("{")]


class Answer:
    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def json(self) -> dict[str, Any]:
        assert self.headers["content-type"].startswith("application/json")
        parsed = orjson.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed

    @property
    def refused(self) -> tuple[int, str]:
        """Status and code; and each refusal has a sentence."""
        assert self.json["detail"]
        return self.status, self.json["error"]


def post_until_taken(gateway: GatewayProcess, **content: Any) -> str:
    """Post new events until one is acknowledged, and return its event key: a client finds a broker in its own time."""
    for number in range(1_000):
        body = {"event_type": "survey_finished", "number": number, **content}
        answer = gateway.post("/webhooks/infermedica", body)
        if answer.status == 202:
            return str(answer.json["event_key"])
        assert answer.refused == (503, "kafka-unavailable")
    raise AssertionError("Kafka is there, and no event was taken")


@contextmanager
def running_gateway(bootstrap: str, folder: Path, *options: str, **environ: str) -> Iterator[GatewayProcess]:
    process = GatewayProcess(environment(bootstrap, **environ), folder, *options)
    try:
        yield process
    finally:
        process.stop()
