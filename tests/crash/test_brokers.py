"""Brokers die and come back: the gateway answers 503 rather than lose an event, and the workers resume.

Events are encrypted: none may be there whose data key is not.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient

from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ProducerRecord
from tests.crash.comparison import compare, raw_records, wait_drained, wait_for_progress
from tests.crash.conftest import SESSION
from tests.crash.load import all_vendors
from tests.crash.sizes import SIZES
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.apache import ApacheKafka
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.receiving import GatewayProcess, running_gateway
from tests.support.waiting import LIMIT
from tests.support.workers import Workers

SENDERS = 4
PARTITIONS = 6 if SIZES.long else 2


class Senders:
    """Vendors that send without regard to the answers. ``accepted``: event keys of every 202."""

    def __init__(self, gateway: GatewayProcess, rate: float) -> None:
        self.accepted: list[str] = []
        self.answers: Counter[int] = Counter()
        self._gateway = gateway
        self._pause = SENDERS / rate
        self._over = threading.Event()

    def send(self, source: Iterator[ProducerRecord]) -> None:
        for made in source:
            if self._over.wait(self._pause):
                return
            event = header(made.headers, "event-type")
            path = f"/webhooks/{made.topic.removeprefix('raw.')}/acme" + (f"/{event}" if event else "")
            answer = self._gateway.post(path, made.value)
            if answer.status == 202:
                self.accepted.append(answer.json["event_key"])
            self.answers[answer.status] += 1

    def over(self) -> None:
        self._over.set()

    def wait_for(self, status: int, more: int = 1) -> None:
        until, wanted = time.monotonic() + LIMIT, self.answers[status] + more
        while self.answers[status] < wanted:
            assert time.monotonic() < until, f"no {status}; {dict(self.answers)}\n{self._gateway.logged[-2000:]}"
            time.sleep(0.05)


@contextmanager
def sending(gateway: GatewayProcess, rate: float) -> Iterator[Senders]:
    senders = Senders(gateway, rate)
    with ThreadPoolExecutor(SENDERS) as threads:
        sent: list[Future[None]] = [
            threads.submit(senders.send, all_vendors(SIZES.seed * SENDERS + number)) for number in range(SENDERS)
        ]
        try:
            yield senders
        finally:
            senders.over()
        for item in sent:
            item.result()


def test_brokers_die_and_come_back(show: Callable[..., None], tmp_path: Path) -> None:
    rng = random.Random(SIZES.seed)
    with apache(3) as cluster:
        create_topics(cluster.bootstrap, replication_factor=3, partitions=PARTITIONS)
        more = {"session_timeout": SESSION, "replication_factor": 3, "partitions": PARTITIONS}
        settings = settings_for(cluster.bootstrap, encryption=ENCRYPTION, **more)
        own = {"FHIRLINE_GATEWAY_DELIVERY_TIMEOUT": "4", "FHIRLINE_ENCRYPTION": ENCRYPTION}
        with Workers(settings, 2) as workers, running_gateway(cluster.bootstrap, tmp_path, **own) as gateway:
            with sending(gateway, rate=min(80.0, SIZES.rate)) as senders:
                senders.wait_for(202, 20)
                for _ in range(SIZES.repeats):
                    killed = rng.choice([*cluster.brokers])
                    cluster.kill(killed)
                    senders.wait_for(202, 20)
                    wait_for_progress(settings, 20)
                    cluster.start(killed)
                    wait_in_sync(cluster)
                dark = outage(cluster, senders)
                senders.wait_for(202, 20)
                wait_for_progress(settings, 20)
            wait_drained(settings)
            ready = gateway.request("GET", "/readyz").status
        kept = {header(raw.headers, "event-key") for raw in raw_records(settings)}
        comparison = compare(settings)
    lost = sum(key not in kept for key in senders.accepted)
    show(
        f"{SIZES.repeats} brokers killed and brought back, then none reachable for {dark:.0f} s",
        f"answers: {dict(senders.answers)}; accepted with 202: {len(senders.accepted)}, of these not in raw: {lost}",
        comparison,
        workers,
    )
    assert senders.answers.keys() == {202, 503}
    assert not lost
    assert ready == 200
    assert comparison.whole


def outage(cluster: ApacheKafka, senders: Senders) -> float:
    """Stop every broker by SIGSTOP: connections stay open, nothing answers. Returns the seconds it lasted."""
    pids = [cluster.pid(broker) for broker in cluster.brokers]
    began = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        while (dark := time.monotonic() - began) < SIZES.outage:
            senders.wait_for(503)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    return dark


def wait_in_sync(cluster: ApacheKafka) -> None:
    """Wait until every replica is in sync: the next kill must not take a second replica of a partition."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    until = time.monotonic() + LIMIT
    while True:
        found = admin.list_topics(timeout=30).topics.values()
        behind = sum(
            len(partition.isrs) < len(partition.replicas) for topic in found for partition in topic.partitions.values()
        )
        if not behind:
            return
        assert time.monotonic() < until, f"{behind} partitions are not in sync"
        time.sleep(0.2)
