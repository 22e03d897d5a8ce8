"""A worker's batch on a real broker, and events that happen while it is mapped."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import pytest
from prometheus_client import CollectorRegistry

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalized, Normalizer
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step2_consume import batch
from fhirline.streams.step2_consume.batch import BatchProcessor
from fhirline.streams.step2_consume.fencing import YIELD_AFTER, Fence
from fhirline.streams.step2_consume.metrics import WorkerMetrics
from fhirline.streams.step2_consume.unfinished import Unfinished
from fhirline.streams.step3_restore.erasure_list import Block, Compartment, Hashing
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step4_normalize.dead_letter import TOO_LARGE
from fhirline.streams.step5_publish.publish import Delivered, RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, ERASED, canonical_topic, state_topic
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.waiting import LIMIT
from tests.support.workload import events, produce

SECRET = "0123456789abcdef0123456789abcdef"


async def committed(_: object) -> None:
    """Take a commit of marks: these batches have no group."""


UNMARKED = Unfinished(lambda _: None, committed)


class Ended(Exception):
    """Replaces the end of the process."""


@pytest.fixture(autouse=True)
def _ends_by_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_uncommitted(reason: str, **details: Any) -> NoReturn:
        raise Ended(reason)

    monkeypatch.setattr(batch, "exit_uncommitted", exit_uncommitted)


@dataclass
class Meanwhile:
    """The mapping. Calls each function of ``happens`` before the event with its number is mapped."""

    normalize: Normalizer
    happens: dict[int, Callable[[], None]] = field(default_factory=dict)
    events: int = 0

    def __call__(self, *event: Any) -> Normalized:
        if happens := self.happens.get(self.events):
            happens()
        self.events += 1
        return self.normalize(*event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.normalize, name)


@dataclass
class Worker:
    settings: Settings
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.meanwhile = Meanwhile(build_normalizer(self.settings))
        self.erasures = ErasureListFeed(self.settings)
        self.processor = BatchProcessor(
            "mediquo",
            self.settings,
            self.meanwhile,  # type: ignore[arg-type]  # it is one in all that is asked of it
            RecordPublisher(self.settings),
            Fence(self.settings.session_timeout),
            self.erasures,
            Opener(self.settings),
            WorkerMetrics(self.registry),
        )
        self.processor.state.assigned(range(self.settings.partitions))

    def close(self) -> None:
        """Free the producer before its broker ends: it would go on looking for it."""
        self.erasures.close()
        del self.processor
        gc.collect()

    def letters(self, code: str) -> float | None:
        return self.registry.get_sample_value("fhirline_dead_letters_total", {"vendor": "mediquo", "code": code})


@pytest.fixture
def worker() -> Iterator[Worker]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        worker = Worker(RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, erasure_key=SECRET))
        yield worker
        worker.close()


def of_one_patient(settings: Settings) -> list[ConsumerRecord]:
    """Return the events of the patient with the most events."""
    raws = produce(settings, [event for event in events(60, seed=3) if event.topic == "raw.mediquo"])
    keys = [raw.key for raw in raws]
    busiest = max(keys, key=keys.count)
    found = [raw for raw in raws if raw.key == busiest]
    assert len(found) > 1
    return found


def written(settings: Settings, topic: str) -> int:
    with Scanner(settings) as scanner:
        return sum(1 for _ in scanner.read(dict.fromkeys(scanner.topic_partitions([topic]))))


def test_a_patient_erased_while_a_batch_is_mapped_does_not_come_back_with_it(worker: Worker) -> None:
    raws = of_one_patient(worker.settings)
    _, _, patient = (raws[0].key or b"").decode().partition("|")

    def erase() -> None:
        """Erase the patient before the last event is mapped, and wait until the erasure list is stale."""
        hashing = Hashing(SECRET.encode())
        digest = hashing.digest(Compartment("mediquo", "acme", patient).partition_key)
        producer = patient_producer(worker.settings)
        producer.produce(ERASED, Block(hashing.check, "2024-07-01T12:00:00Z").encode(), digest.encode(), 0)
        assert producer.flush(LIMIT) == 0
        while worker.erasures.fresh:
            time.sleep(0.05)

    worker.meanwhile.happens[len(raws) - 1] = erase
    with pytest.raises(Ended, match="erased under a batch"):
        asyncio.run(worker.processor.process(raws, UNMARKED))
    asyncio.run(worker.processor.process(raws, UNMARKED))  # read again
    assert worker.meanwhile.events == len(raws)
    assert written(worker.settings, canonical_topic("Provenance")) == 0


def test_a_contribution_is_written_when_the_state_that_it_came_from_is_durable(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash between the two, an older contribution would replace it, and the Practitioner would go back."""
    publisher = worker.processor._publisher
    publish = publisher.publish_async
    calls: list[tuple[set[str], int]] = []

    async def observed(records: Iterable[ProducerRecord], delivered: Delivered | None = None) -> Any:
        made = [*records]
        durable = written(worker.settings, state_topic("mediquo"))
        calls.append(({record.topic for record in made}, durable))
        return await publish(made, delivered)

    monkeypatch.setattr(publisher, "publish_async", observed)
    asyncio.run(worker.processor.process(of_one_patient(worker.settings), UNMARKED))
    [durable] = [durable for topics, durable in calls if CONTRIBUTIONS in topics]
    assert durable == written(worker.settings, state_topic("mediquo")) > 0
    assert all(topics == {CONTRIBUTIONS} for topics, _ in calls if CONTRIBUTIONS in topics)


def test_nothing_is_restored_while_a_batch_is_mapped(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that restores would change the state that the mapping reads."""
    raws = of_one_patient(worker.settings)
    state = worker.processor.state
    restored: list[int] = []
    restore = state.restore

    def counted(partitions: Any) -> int:
        restored.append(worker.meanwhile.events)
        return restore(partitions)

    monkeypatch.setattr(state, "restore", counted)
    preparing: list[asyncio.Task[None]] = []

    def rebalance() -> None:
        state.assigned(range(worker.settings.partitions))
        preparing.append(asyncio.ensure_future(worker.processor.prepare()))

    worker.meanwhile.happens[0] = rebalance
    for item in range(1, len(raws)):
        worker.meanwhile.happens[item] = lambda: time.sleep(2 * YIELD_AFTER)  # so that other tasks get their turn

    async def run() -> None:
        await worker.processor.process(raws, UNMARKED)
        await asyncio.gather(*preparing)

    asyncio.run(run())
    assert restored == [0, len(raws)]


def test_a_letter_that_is_itself_too_large_is_one_letter(worker: Worker) -> None:
    (raw,) = of_one_patient(worker.settings)[:1]
    limit = worker.settings.message_max_bytes
    bad = replace(raw, offset=10_000, key=b"k" * limit, value=b"{not json", headers=[])
    asyncio.run(worker.processor.process([bad], UNMARKED))
    assert (worker.letters("not-json"), worker.letters(TOO_LARGE)) == (1, 0)
    assert written(worker.settings, "dead-letter.mediquo") == 1


def test_a_batch_is_delivered_in_parts_of_bounded_size(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done, and may be committed, only after the last of them."""
    raws = produce(worker.settings, [event for event in events(120, seed=3) if event.topic == "raw.mediquo"])
    sizes: list[int] = []
    mapped_before: list[int] = []
    publish = worker.processor._publisher.publish_async

    async def counted(records: Any, *more: Any) -> Any:
        records = list(records)
        size = sum(len(record.value or b"") for record in records)
        if records and records[0].topic == CONTRIBUTIONS:  # the second half of a part
            sizes[-1] += size
            assert mapped_before[-1] == worker.meanwhile.events
        elif records:
            sizes.append(size)
            mapped_before.append(worker.meanwhile.events)
        return await publish(records, *more)

    monkeypatch.setattr(worker.processor._publisher, "publish_async", counted)
    monkeypatch.setattr(batch, "MOST_MADE", 100_000)
    asyncio.run(worker.processor.process(raws, UNMARKED))
    assert worker.meanwhile.events == mapped_before[-1] == len(raws)
    assert len(sizes) > 3
    assert mapped_before == sorted({*mapped_before}), "each part is delivered before the next is mapped"
    assert max(sizes) < 200_000
    assert worker.registry.get_sample_value("fhirline_batch_events_sum", {"vendor": "mediquo"}) == len(raws)


def test_memory_is_given_back_after_a_large_batch_and_after_no_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    raws = produce(worker.settings, [event for event in events(20, seed=7) if event.topic == "raw.mediquo"])
    size, released = sum(len(raw.value or b"") for raw in raws), list[int]()
    monkeypatch.setattr(batch, "release_memory", lambda: released.append(worker.meanwhile.events))
    for most in (size, size - 1):
        monkeypatch.setattr(batch, "LARGE_BATCH", most)
        asyncio.run(worker.processor.process(raws, UNMARKED))
    assert released == [worker.meanwhile.events], "once, behind the second batch"
