"""Whatever opens records, or follows the erasure list, closes the consumers for that at its end."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.enrich.metrics import EnrichMetrics
from fhirline.streams.enrich.stage import Stage
from fhirline.streams.kafka.encryption.key_ring import KeyRing
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.operate.replay.run import Run
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.step1_receive.raw_producer import RawProducer
from fhirline.streams.step2_consume.app import Worker
from fhirline.streams.step2_consume.endpoint import WorkerEndpoint
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import raw_topic
from tests.support.encryption import ENCRYPTION, Sealer
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT
from tests.support.workload import events, produce

pytestmark = pytest.mark.long  # most of it is waiting


@pytest.fixture
def settings(own_broker: RunningBroker, tmp_path: Path) -> Settings:
    return own_broker.settings(encryption=SecretStr(ENCRYPTION), replay_dir=tmp_path, session_timeout=6)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[KeyRing]]:
    """All key rings of this process."""
    made, init = list[KeyRing](), Opener.__init__

    def opened(self: Opener, settings: Settings) -> None:
        init(self, settings)
        assert self.ring is not None
        made.append(self.ring)

    monkeypatch.setattr(Opener, "__init__", opened)
    yield made
    for ring in made:
        ring.close()


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ErasureListFeed]]:
    """All feeds of the erasure list of this process."""
    made, init = list[ErasureListFeed](), ErasureListFeed.__init__

    def opened(self: ErasureListFeed, settings: Settings) -> None:
        init(self, settings)
        made.append(self)

    monkeypatch.setattr(ErasureListFeed, "__init__", opened)
    yield made
    for feed in made:
        feed.close()


def sealed_events(settings: Settings, vendor: str) -> None:
    sealer = Sealer(settings)
    raws = [sealer(event) for event in events(60, seed=5) if event.topic == raw_topic(vendor)]
    assert raws
    produce(settings, sealer.made)
    produce(settings, raws)


def test_a_replay_closes_them(settings: Settings, rings: list[KeyRing]) -> None:
    sealed_events(settings, "mediquo")
    with Run.new(settings, Selection(("mediquo",)), 1) as run:
        run.map()
        with run.journals() as journals:
            run.publisher(journals, tombstones=False).run()
        assert any(ring.open for ring in rings), "none was used"
    assert not [ring for ring in rings if ring.open]


def test_the_enrichment_closes_them(settings: Settings, rings: list[KeyRing], feeds: list[ErasureListFeed]) -> None:
    sealed_events(settings, "infermedica")

    def nothing_to_fetch(tenant: str) -> None:
        raise AssertionError(tenant)

    async def run() -> None:
        producer, stopping = RawProducer(settings), asyncio.Event()
        metrics = EnrichMetrics(new_registry("enrich"), "infermedica", ())
        stage = Stage(settings, producer, nothing_to_fetch, metrics)  # type: ignore[arg-type]  # nothing is fetched
        running = asyncio.create_task(stage.run(stopping))
        async with asyncio.timeout(LIMIT):
            while not any(ring.open for ring in rings):
                assert not running.done()
                await asyncio.sleep(0.05)
            stopping.set()
            await running
        await producer.stop()

    asyncio.run(run())
    assert not [ring for ring in rings if ring.open]
    assert feeds
    assert not [feed for feed in feeds if feed.open]


def test_a_worker_closes_what_its_agents_need_when_they_have_ended(
    settings: Settings, rings: list[KeyRing], feeds: list[ErasureListFeed]
) -> None:
    sealed_events(settings, "altibbi")

    async def run() -> None:
        app = Worker(settings, build_normalizer(settings), ["altibbi"], WorkerEndpoint(settings)).app
        for ring in rings:
            ring.read_on([0])
        assert [feed.open for feed in feeds] == [True]
        assert any(ring.open for ring in rings)
        await app.on_shutdown()

    asyncio.run(run())
    assert not [feed for feed in feeds if feed.open]
    assert not [ring for ring in rings if ring.open]


def test_the_erasure_list_is_closed_when_a_thread_of_a_cancelled_task_has_read_it(settings: Settings) -> None:
    feed, arrived, go_on = ErasureListFeed(settings), threading.Event(), threading.Event()
    feed.refresh()
    apply = feed.erasure_list.apply

    def waiting(records: Iterable[tuple[bytes, bytes | None]]) -> None:
        arrived.set()
        assert go_on.wait(LIMIT)
        apply(records)

    feed.erasure_list.apply = waiting  # type: ignore[method-assign]  # a spy
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(feed.refresh)
        assert arrived.wait(LIMIT)
        closing = threads.submit(feed.close)
        assert feed.open
        assert not closing.done()
        go_on.set()
        reading.result(LIMIT)
        closing.result(LIMIT)
    assert not feed.open
