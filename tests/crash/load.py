"""Steady input: events that come until the disturbances are over."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support.workload import events, produce

ROUND = 200
WORDS = ("new", "checking_medical_profile", "in_progress", "closed")
CONSULTATIONS = 60
START = 1_686_823_200  # 2023-06-15T10:00:00Z


def all_vendors(seed: int) -> Iterator[ProducerRecord]:
    """Yield events of all vendors without end."""
    return chain.from_iterable(events(ROUND, seed * 1_000_003 + number) for number in count())


def folded(seed: int) -> Iterator[ProducerRecord]:
    """Yield status updates of a few Altibbi consultations, out of order and some twice, between events of all vendors.

    Each update adds a transition to its Encounter. A lost update shows, and so does a stale Encounter that is written
    last.
    """
    rng = random.Random(seed)
    for other in all_vendors(seed):
        for _ in range(2):
            yield (made := _status_update(rng))
            if rng.random() < 0.05:
                yield made
        yield other


def _status_update(rng: random.Random) -> ProducerRecord:
    consultation = rng.randrange(CONSULTATIONS)
    seconds = START + rng.randrange(1_000_000)
    old, new = rng.sample(WORDS, 2)
    body = {
        "type": "status_update",
        "consultation_id": 5_000_000 + consultation,
        "user_id": 7_000_000 + consultation // 3,
        "old_status": old,
        "new_status": new,
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
    }
    received = Instant.parse("2024-06-01T12:00:00Z")
    assert received is not None
    return raw_record("altibbi", "acme", orjson.dumps(body), received, None, 64)


@dataclass
class Steady:
    """A running input. ``sent`` counts the events handed to the producer."""

    least: int
    rate: float
    sent: int = 0
    _enough: threading.Event = field(default_factory=threading.Event)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def paced(self, source: Iterable[ProducerRecord]) -> Iterator[ProducerRecord]:
        """Yield ``rate`` events a second until `enough` was called, and at least ``least`` events."""
        began = time.monotonic()
        for made in source:
            if self._abandoned.is_set() or (self._enough.is_set() and self.sent >= self.least):
                return
            self._abandoned.wait(max(0.0, began + self.sent / self.rate - time.monotonic()))
            self.sent += 1
            yield made

    def enough(self) -> None:
        self._enough.set()

    def abandon(self) -> None:
        self._abandoned.set()


@contextmanager
def steady(settings: Settings, source: Iterable[ProducerRecord], least: int, rate: float) -> Iterator[Steady]:
    """Produce in a thread while the body disturbs. Returns when everything has been written."""
    patient = settings.model_copy(update={"delivery_timeout": 300.0})
    running = Steady(least, rate)
    with ThreadPoolExecutor(1) as thread:
        produced: Future[object] = thread.submit(lambda: produce(patient, running.paced(source)))
        try:
            yield running
        except BaseException:
            running.abandon()
            raise
        running.enough()
        produced.result()
