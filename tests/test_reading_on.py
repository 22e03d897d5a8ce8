"""A worker's Faust app, run here, whose consumer loses records on purpose: they are mapped all the same."""

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import pytest

from config.settings import Settings
from mappers.session import normalizer
from streams import batch, fence, step2_consume
from streams.faust_transport import WorkerConsumer
from streams.metrics.watched import Watched
from streams.step2_consume import build_app
from tests.crash.comparison import lag, settled
from tests.kafka.brokers import apache, create_topics, settings_for
from tests.workload import Store, events, produce, undisturbed

VENDOR = "mediquo"
NOTHING = {"missing": 0, "differing": 0, "unexpected": 0}
ENOUGH = 90.0

Place = tuple[str, int]
Lost = Callable[[Place, int, Mapping[Place, int]], bool]
"""Whether the record at an offset of a partition is lost; ``last`` is each partition's last offset."""

LOST: dict[str, Lost] = {
    "first": lambda place, offset, last: offset == 0,
    "between": lambda place, offset, last: offset in (2, 3),
    "last": lambda place, offset, last: offset >= last[place] - 1,
    "all": lambda place, offset, last: True,
}


@pytest.fixture(autouse=True)
def _no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app runs in the test's own process, which must not end."""

    def die(reason: str, **details: Any) -> NoReturn:
        raise AssertionError(f"{reason} {details}")

    for module in (batch, fence, step2_consume):
        monkeypatch.setattr(module, "die", die)
    monkeypatch.setattr(step2_consume, "READ_ON_EVERY", 0.5)


class Losing:
    """What is left of fetched records where each of the lost ones gets lost once."""

    def __init__(self, lost: Lost, last: Mapping[Place, int]) -> None:
        self.lost: set[tuple[Place, int]] = set()
        self._is_lost, self._last = lost, last

    def left(self, fetched: Mapping[Any, Sequence[Any]] | None) -> dict[Any, list[Any]]:
        return {tp: [each for each in records if not self._loses(each)] for tp, records in (fetched or {}).items()}

    def _loses(self, record: Any) -> bool:
        place, offset = (record.topic, record.partition), record.offset
        if (place, offset) in self.lost or not self._is_lost(place, offset, self._last):
            return False
        self.lost.add((place, offset))
        return True


@pytest.mark.parametrize("what", LOST)
def test_what_faust_loses_is_mapped(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap, session_timeout=6)
        raws = produce(settings, (each for each in events(400, seed=3) if each.topic == f"raw.{VENDOR}"))
        last = {(raw.topic, raw.partition): raw.offset for raw in raws}
        losing = Losing(LOST[what], last)
        get = WorkerConsumer._getmany

        async def getmany(consumer: WorkerConsumer, **asked: Any) -> dict[Any, list[Any]]:
            return losing.left(await get(consumer, **asked))

        monkeypatch.setattr(WorkerConsumer, "_getmany", getmany)
        expected = undisturbed(settings, raws)
        store = Store(settings)
        try:
            asyncio.run(_run_until_mapped(settings, store, expected))
        finally:
            store.close()
            gc.collect()  # the app's producer ends before its broker does
        lost = sum(LOST[what](place, offset, last) for place in last for offset in range(last[place] + 1))
        assert len(losing.lost) == lost > 0


async def _run_until_mapped(settings: Settings, store: Store, expected: dict[str, bytes]) -> None:
    app = build_app(settings, normalizer(settings), [VENDOR], Watched(settings))
    await app.start()
    try:
        async with asyncio.timeout(ENOUGH):
            while store.differences(expected) != NOTHING or await asyncio.to_thread(settled, lambda: lag(settings)):
                await asyncio.to_thread(store.read, 0.2)
    except TimeoutError:
        pytest.fail(f"{store.differences(expected)}, lag {lag(settings)}")
    finally:
        await app.stop()
