"""Workers are killed, added, removed and paused under steady input: nothing is lost, nothing stale is written last."""

import random
import signal
from collections.abc import Callable

from fhirline.config.settings import Settings
from tests.crash.comparison import compare, wait_drained, wait_for_progress
from tests.crash.load import all_vendors, folded, steady
from tests.crash.sizes import SIZES
from tests.support.workers import Workers

SMALL_BATCHES = {"FHIRLINE_BATCH_SIZE": "50"}
"""More barriers a second, so that random moments fall between the steps of one."""

IN_ORDER = 10.0
"""Seconds within which a worker leaves in order (faust.md §4.3)."""


def test_one_of_three_killed_at_random_moments(encrypted: Settings, show: Callable[..., None]) -> None:
    """SIGKILL, repeated, under encrypted input of all vendors: every last value is that of one undisturbed run."""
    rng = random.Random(SIZES.seed)
    with Workers(encrypted, 3, **SMALL_BATCHES) as workers:
        with steady(encrypted, all_vendors(SIZES.seed), SIZES.events, SIZES.rate):
            for _ in range(SIZES.kills):
                wait_for_progress(encrypted, rng.randint(1, int(SIZES.rate * 3)))
                rng.choice(workers.here).kill()
        wait_drained(encrypted)
    comparison = compare(encrypted)
    show(f"{SIZES.kills} kills of one of three workers", comparison, workers)
    assert workers.exits[-signal.SIGKILL] >= SIZES.kills
    assert comparison.whole


def test_workers_come_and_go_under_load(kafka: Settings, show: Callable[..., None]) -> None:
    """Rebalances with folds lose no status transition. SIGTERM ends a worker in order and in time."""
    rng = random.Random(SIZES.seed)
    leaves = []
    with Workers(kafka, 1, **SMALL_BATCHES) as workers:
        with steady(kafka, folded(SIZES.seed), SIZES.events, SIZES.rate):
            for _ in range(SIZES.repeats):
                added = workers.add()
                added.wait_assigned()
                wait_for_progress(kafka, rng.randint(1, int(SIZES.rate * 3)))
                leaves.append(rng.choice(workers.here).leave())
                wait_for_progress(kafka, rng.randint(1, int(SIZES.rate)))
        wait_drained(kafka)
    comparison = compare(kafka)
    slowest = max(seconds for _, seconds in leaves)
    show(f"{len(leaves)} workers added, {len(leaves)} removed by SIGTERM, the slowest in {slowest:.1f} s", comparison)
    assert {code for code, _ in leaves} == {0}, leaves
    assert slowest < IN_ORDER or not SIZES.long, "only the long form has the machine for itself"
    assert comparison.transitions[0] > 0
    assert comparison.whole


def test_a_paused_worker_writes_nothing_stale(kafka: Settings, show: Callable[..., None]) -> None:
    """SIGSTOP until another worker has the partitions, then SIGCONT: the worker ends and writes nothing stale."""
    rng = random.Random(SIZES.seed)
    with Workers(kafka, 2, **SMALL_BATCHES) as workers:
        with steady(kafka, folded(SIZES.seed), SIZES.events, SIZES.rate):
            for _ in range(SIZES.repeats):
                wait_for_progress(kafka, rng.randint(1, 10))  # something has just been written, and more is on its way
                member = rng.choice(workers.here)
                paused = member.signal(signal.SIGSTOP)
                [other] = [worker for worker in workers.here if worker is not member]
                workers.wait_owns_all(other)
                wait_for_progress(kafka, int(SIZES.rate))
                member.signal(signal.SIGCONT)
                code = member.wait_ended(paused)
                # After a long pause both of the fence's limits have passed, and either may act first.
                assert code == 70 or (code == 1 and workers.last_resorts), paused.report("should have ended itself")
                member.wait_restarted(paused)
                member.wait_assigned()
        wait_drained(kafka)
    comparison = compare(kafka)
    show(f"{SIZES.repeats} pauses beyond the session", comparison, workers)
    assert workers.exits[70] + workers.last_resorts >= SIZES.repeats
    assert comparison.whole
