"""Everything is killed and paused in turn, for minutes: brokers, workers, the enrichment, the gateway. `make kills`."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import yaml

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import header
from fhirline.topics.declared import enriched_topic
from tests.crash.comparison import compare, raw_records, read_all, wait_drained, wait_for_progress
from tests.crash.conftest import SESSION
from tests.crash.sizes import SIZES
from tests.crash.test_brokers import Senders, sending, wait_in_sync
from tests.support.encryption import ENCRYPTION
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.apache import ApacheKafka
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.paths import CONFIG
from tests.support.receiving import GatewayProcess, running_gateway
from tests.support.waiting import wait_until
from tests.support.workers import Worker, Workers

TENANT = "clinic"
PARTITIONS = 6
RATE = 40.0
ENRICHED = enriched_topic("infermedica")


@contextmanager
def surveys(gateway: GatewayProcess, api: InfermedicaServer) -> Iterator[list[str]]:
    """Send thin events, one a second, until the body ends; the list has the ids of those that were accepted."""
    accepted: list[str] = []
    over = threading.Event()

    def send() -> None:
        number = 0
        while not over.wait(1):
            number += 1
            api.complete(survey := f"s-{number}")
            body = {"event_type": "survey_finished", "content": {"survey_id": survey}}
            if gateway.post(f"/webhooks/infermedica/{TENANT}", body).status == 202:
                accepted.append(survey)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield accepted
    finally:
        over.set()
        thread.join()


class Disturbances:
    """Disturbances of one of the processes: each returns when all is as before."""

    def __init__(self, cluster: ApacheKafka, workers: Workers, enrich: Worker, gateway: GatewayProcess) -> None:
        self._rng = random.Random(SIZES.seed)
        self._cluster, self._workers, self._enrich, self._gateway = cluster, workers, enrich, gateway
        self.done: Counter[str] = Counter()

    def one(self) -> None:
        """Do the one that was done least often, so that a short run has each."""
        kinds: tuple[Callable[[], None], ...] = (
            self.broker_killed,
            self.broker_paused,
            self.worker_killed,
            self.worker_paused,
            self.enrichment_killed,
            self.enrichment_paused,
            self.gateway_paused,
        )
        least = min(self.done[kind.__name__] for kind in kinds)
        kind = self._rng.choice([kind for kind in kinds if self.done[kind.__name__] == least])
        kind()
        self.done[kind.__name__] += 1

    def broker_killed(self) -> None:
        broker = self._rng.choice([*self._cluster.brokers])
        self._cluster.kill(broker)
        self._pause(1, 5)
        self._cluster.start(broker)
        wait_in_sync(self._cluster)

    def broker_paused(self) -> None:
        self._stopped(self._cluster.pid(self._rng.choice([*self._cluster.brokers])), 1, 8)
        wait_in_sync(self._cluster)

    def worker_killed(self) -> None:
        self._rng.choice(self._workers.here).kill()

    def worker_paused(self) -> None:
        """Pause a worker, half of the times for longer than its session: it ends itself then."""
        self._stopped(self._rng.choice(self._workers.here).process.pid, 1, 2 * SESSION)

    def enrichment_killed(self) -> None:
        self._enrich.kill()

    def enrichment_paused(self) -> None:
        self._stopped(self._enrich.process.pid, 1, 2 * SESSION)

    def gateway_paused(self) -> None:
        self._stopped(self._gateway.pid, 1, 4)

    def _stopped(self, pid: int, least: float, most: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            self._pause(least, most)
        finally:
            os.kill(pid, signal.SIGCONT)

    def _pause(self, least: float, most: float) -> None:
        time.sleep(self._rng.uniform(least, most))


@pytest.mark.skipif(not SIZES.minutes, reason="the long run: make kills")
def test_kills_and_pauses_of_everything(show: Callable[..., None], tmp_path: Path) -> None:
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["tenants"][TENANT] = {"enrichment": True}
    vendors = tmp_path / "vendors.yaml"
    vendors.write_text(yaml.safe_dump(content), "utf-8")
    with apache(3) as cluster, InfermedicaServer() as api:
        create_topics(cluster.bootstrap, replication_factor=3, partitions=PARTITIONS)
        more = {"session_timeout": SESSION, "replication_factor": 3, "partitions": PARTITIONS}
        settings = settings_for(cluster.bootstrap, vendors_file=vendors, encryption=ENCRYPTION, **more)
        own = {
            "FHIRLINE_VENDORS_FILE": str(vendors),
            "FHIRLINE_INFERMEDICA_URL": api.url,
            "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
            "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
            "FHIRLINE_ENRICH_RETRY_FIRST": "0.05",
            "FHIRLINE_ENRICH_RETRY_LONGEST": "0.3",
        }
        gateway_own = {
            "FHIRLINE_VENDORS_FILE": str(vendors),
            "FHIRLINE_GATEWAY_DELIVERY_TIMEOUT": "4",
            "FHIRLINE_ENCRYPTION": ENCRYPTION,
        }
        with (
            Workers(settings, 2, **own) as workers,
            Workers(settings, 0, **own) as enrichments,
            running_gateway(cluster.bootstrap, tmp_path, **gateway_own) as gateway,
        ):
            disturbances = Disturbances(cluster, workers, enrichments.add("enrich"), gateway)
            end = time.monotonic() + 60 * SIZES.minutes
            with sending(gateway, RATE) as senders, surveys(gateway, api) as asked:
                senders.wait_for(202, 20)
                while time.monotonic() < end:
                    disturbances.one()
                    senders.wait_for(202, 20)
                    wait_for_progress(settings, 20)
            wait_until(lambda: {*asked} <= enriched(settings), "not every survey is enriched")
            wait_drained(settings)
        check(settings, senders, asked, show, disturbances, workers, enrichments)


def enriched(settings: Settings) -> set[str]:
    """Return the ids of the surveys that have an enriched event."""
    return {orjson.loads(item.value() or b"")["content"]["survey_id"] for item in read_all(settings, [ENRICHED])}


def check(
    settings: Settings,
    senders: Senders,
    asked: list[str],
    show: Callable[..., None],
    disturbances: Disturbances,
    *groups: Workers,
) -> None:
    """Check that nothing that was accepted is missing, and that the topics are those of an undisturbed run."""
    kept = {header(raw.headers, "event-key") for raw in raw_records(settings)}
    lost = sum(key not in kept for key in senders.accepted)
    comparison = compare(settings)
    show(
        f"{SIZES.minutes:g} minutes; {sum(disturbances.done.values())} disturbances: {dict(disturbances.done)}",
        f"answers: {dict(senders.answers)}; accepted: {len(senders.accepted)}, of these not in raw: {lost}",
        f"surveys accepted and enriched: {len(asked)}",
        comparison,
        *groups,
    )
    assert senders.answers.keys() <= {202, 503}
    assert not lost
    assert asked
    assert comparison.whole
