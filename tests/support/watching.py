"""Shared by the tests of metrics, logs and traces: gateway and worker as processes on the embedded broker."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from tests.support.kafka.brokers import create_topics
from tests.support.processes import ForkedProcess
from tests.support.receiving import GatewayProcess, environment, running_gateway
from tests.support.waiting import LIMIT


class WorkerEndpoint:
    """A gateway and a worker, each with an endpoint for its metrics; ``logged`` is every line of both so far."""

    def __init__(self, broker: EmbeddedBroker, gateway: GatewayProcess, worker: Process, lines: list[str]) -> None:
        self.broker = broker
        self.gateway = gateway
        self.worker = worker
        self._lines = lines

    @property
    def logged(self) -> str:
        return "\n".join([self.gateway.logged, *self._lines])

    @property
    def worker_url(self) -> str:
        url: str = self.worker.wait_for("metrics listening")["url"]
        return url.removesuffix("/metrics")

    def scraped(self) -> dict[str, str]:
        """The metrics of both."""
        return {
            "gateway": self.gateway.metrics,
            "worker": get(f"{self.worker_url}/metrics")[1],
        }

    def until(self, enough: Callable[[str], bool]) -> str:
        """The worker's metrics, asked for until they are as they should be."""
        end = time.monotonic() + LIMIT
        while not enough(metrics := self._worker_metrics()):
            assert time.monotonic() < end, f"{metrics}\n{self.worker.report('is')}"
            time.sleep(0.1)
        return metrics

    def _worker_metrics(self) -> str:
        """Read a worker's metrics; where it has ended, its last lines are the error."""
        try:
            return get(f"{self.worker_url}/metrics")[1]
        except OSError:  # a refused connection, or one that ended before the answer
            self.worker.wait(LIMIT)
            raise AssertionError(self.worker.report("has ended")) from None


@contextmanager
def watched(folder: Path, **more: str) -> Iterator[WorkerEndpoint]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        # A worker that is paused for longer than its group waits ends: no machine pauses one for so long.
        own = {"FHIRLINE_SESSION_TIMEOUT": "20", **more}
        lines: list[str] = []
        worker = ForkedProcess(
            "worker",
            environment=environment(broker.bootstrap, FHIRLINE_METRICS_PORT="0", **own),
            echo=lines.append,
        )
        try:
            with running_gateway(broker.bootstrap, folder, FHIRLINE_METRICS_PORT="0", **own) as gateway:
                worker.wait_for("partitions assigned")
                yield WorkerEndpoint(broker, gateway, worker, lines)
        finally:
            worker.stop()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def first_record(bootstrap: str, topic: str, wanted: Callable[[Message], bool] = lambda _: True) -> Message:
    """The first record of a topic that is wanted, awaited."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"first-{topic}", "auto.offset.reset": "earliest"})
    try:
        partitions = consumer.list_topics(topic, timeout=LIMIT).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            message = consumer.poll(1)
            if message is not None:
                assert message.error() is None
                if wanted(message):
                    return message
        raise AssertionError(f"nothing arrived on {topic}")
    finally:
        consumer.close()
