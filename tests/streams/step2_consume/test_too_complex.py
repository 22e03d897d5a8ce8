"""Bombs on a real broker: what lies behind them in their partition is mapped (mapping.md §1.1)."""

import time
from contextlib import closing

import orjson
import pytest

from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.operate.test_dead_letters import RECEIVED_AT, letters
from tests.streams.step2_consume.test_worker import NOTHING, running
from tests.support.bombs import TARGETS, bombs
from tests.support.kafka.brokers import RunningBroker
from tests.support.messages import header_of
from tests.support.waiting import LIMIT
from tests.support.workload import Store, produce, undisturbed


@pytest.mark.long
def test_an_event_behind_bombs_is_mapped(own_broker: RunningBroker) -> None:
    """Three events of one patient in one partition: one that is cut, one that is too complex, and an ordinary one."""
    assert RECEIVED_AT is not None
    settings = own_broker.settings()
    wanted = ("numbers at payload/chat", "numbers at payload/patient/diseases")
    bodies = [body for name, _, body in bombs("mediquo") if name in wanted]
    ordinary = orjson.dumps({**TARGETS["mediquo"].body, "occurred_on": 1700000060})
    raws = produce(
        settings, [raw_record("mediquo", "acme", body, RECEIVED_AT, None, 64) for body in (*bodies, ordinary)]
    )
    assert len({(raw.topic, raw.partition) for raw in raws}) == 1
    expected = undisturbed(settings, raws)
    with (
        closing(Store(settings)) as store,
        letters(settings, "mediquo") as found,
        running(settings) as worker,
    ):
        end = time.monotonic() + LIMIT
        while store.differences(expected) != NOTHING or not found.read():
            assert time.monotonic() < end, worker.report("is stuck")
            assert worker.running, worker.report("has ended")
            store.read(0.05)
        assert worker.stop() == 0
        (letter,) = found.read_to_the_end()
    assert header_of(letter, "error-code") == "too-complex"
    assert header_of(letter, "error-path") == "/payload/patient/diseases"
    assert header_of(letter, "raw") == str(raws[1].position)
    assert len([name for name in expected if "MedicationRequest/" in name]) == 1
