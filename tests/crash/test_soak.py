"""Soak: one worker keeps its memory and its pace under a long load. Run by `make soak` only."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from tests.crash.comparison import committed, compare, lag, settled, wait_drained, wait_until
from tests.crash.load import all_vendors, steady
from tests.crash.sizes import SIZES
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.workers import Worker, Workers

MAX_LAG = 20_000
ASK_EVERY = 2_000
MAX_GROWTH = 0.10
WARM = 25_000
"""The least number of events after which every code path has run (the cross-check loads its models one by one)."""

SAMPLES = 50


@pytest.fixture
def roomy() -> Iterator[Settings]:
    """Run a broker that compacts often, so that a million events take little more disk than their last values."""
    often = {"log_segment_bytes": 33_554_432, "log_cleaner_backoff_ms": 2_000}
    with apache(**often) as cluster:
        create_topics(cluster.bootstrap)
        yield settings_for(cluster.bootstrap, session_timeout=30)


@pytest.mark.skipif(not SIZES.soak, reason="the long run: make soak")
def test_memory_stays_and_lag_returns_to_0(roomy: Settings, show: Callable[..., None]) -> None:
    """After the first tenth, in which state and caches fill, resident memory grows by less than 10 %; lag is 0."""
    assert SIZES.soak >= 2 * WARM, f"EVENTS={2 * WARM} at least"
    # All events repeat before the first measurement: the state is bounded by them, and must not grow afterwards.
    different = list(islice(all_vendors(SIZES.seed), WARM))
    with Workers(roomy, 1) as workers:
        [worker] = workers.here
        process = worker.process
        with steady(roomy, held_back(roomy, cycle(different)), SIZES.soak, rate=1e6):
            resident = sampled(roomy, worker)
        wait_drained(roomy)
        resident.append(resident_mib(worker))
        assert worker.process is process, process.report("ended")
        behind = lag(roomy)
    warm = max(SIZES.soak // 10, WARM)
    first = warm * SAMPLES // SIZES.soak - 1
    settled_at, most = resident[first], max(resident[first:])
    growth = most / settled_at - 1
    show(
        f"{SIZES.soak} events through one worker: {settled_at:.0f} MiB resident after the first {warm}, at most "
        f"{most:.0f} MiB after them ({growth:+.1%}), {resident[-1]:.0f} MiB at the end; lag {behind}",
        "MiB along the way: " + " ".join(f"{item:.0f}" for item in resident),
    )
    assert growth < MAX_GROWTH
    assert behind == 0
    comparison = compare(roomy)
    show(comparison, workers)
    assert comparison.whole


def held_back(settings: Settings, source: Iterator[ProducerRecord]) -> Iterator[ProducerRecord]:
    """Pause the input while the worker is far behind, so that the broker's disk stays small."""
    while True:
        yield from islice(source, ASK_EVERY)
        wait_until(lambda: settled(lambda: lag(settings)), lambda now, _: now < MAX_LAG)


def sampled(settings: Settings, worker: Worker) -> list[float]:
    """Measure the resident memory each time another share of all events has been committed."""
    found: list[float] = []
    for sample in range(1, SAMPLES + 1):
        share = SIZES.soak * sample // SAMPLES
        if sample < SAMPLES:  # the last share is the drain's
            wait_until(lambda: settled(lambda: sum(committed(settings).values())), partial(reached, share))
        found.append(resident_mib(worker))
    return found


def reached(share: int, now: int, _: float) -> bool:
    return now >= share


def resident_mib(worker: Worker) -> float:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024
