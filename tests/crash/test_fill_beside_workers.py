"""A FHIR server is filled from the topics while a worker maps events and writes resources and Bundles."""

import random
from collections.abc import Callable

from fhirline.config.settings import Settings
from tests.crash.comparison import wait_drained
from tests.crash.sizes import SIZES
from tests.crash.test_delivery import cleared, in_order
from tests.support.delivery import (
    compared,
    delivering,
    filling,
    lag,
    letters,
    wait_until_delivered,
    waiting,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import Workers
from tests.support.workload import Store, produce

EVENTS = 10_000 if SIZES.long else 90


def test_what_workers_write_meanwhile_arrives(
    kafka: Settings, show: Callable[..., None], ehr_server: EhrServers
) -> None:
    """Events come before the fill, while it decides and reads, and after it has read, for the same patients.

    In between the server is busy, so that the fill is not over before the worker has mapped the last ones.
    """
    made = [*in_order(EVENTS)]
    random.Random(SIZES.seed).shuffle(made)
    parts = [made[number::3] for number in range(3)]
    with cleared(ehr_server()) as server, Workers(kafka, 1), FaultProxy(server.base, [503] * 1_000_000) as proxy:
        produce(kafka, parts[0])
        wait_drained(kafka)
        with filling(kafka, proxy.base) as fill:
            produce(kafka, parts[1])
            wait_until(lambda: proxy.answered["503"] or not fill.running, lambda: fill.report("sends nothing"))
            produce(kafka, parts[2])
            wait_drained(kafka)
            assert fill.running, fill.report("has ended")
            proxy.faults.clear()
            assert fill.wait(LIMIT if not SIZES.long else 3_600) == 0, fill.output
        left = lag(kafka)
        assert left > 0, "Bundles that came after the fill's version"
        with delivering(kafka, proxy.base) as process:
            wait_until_delivered(kafka, process, patience=LIMIT if not SIZES.long else 3_600)
        assert process.exit_code == 0, process.report("did not end in order")
        store = Store(kafka)
        store.read_to_the_end()
        store.close()
        held = {
            name.partition(" ")[2]: value
            for name, value in store.values.items()
            if name.startswith("fhir.r4.") and not name.startswith("fhir.r4.bundle")
        }
        wrong, _ = compared(server, held)
        assert wrong == []
        assert letters(kafka) == {}
        assert waiting(kafka) == []
        show(f"{len(made)} events, {len(held)} resources, {left} Bundles after the fill: 0 differ")
