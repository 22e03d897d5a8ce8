"""From raw events through the worker and the delivery to a real FHIR server, while one of the three is killed.

Afterwards the GET of every id is its last canonical value, no resource has more versions than it had values, and
exactly the patients are parked that the server refuses. ``CRASH_FORM=long``: 10,000 events; ``DELIVERY_EVENTS`` sets
a number.
"""

import copy
import os
import random
import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.deliver.entries import SHARED_TYPES
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.crash.comparison import wait_drained
from tests.crash.sizes import SIZES
from tests.crash.workers import Workers
from tests.support.cases import cases
from tests.support.delivery import bumped, delivering, differing, run_command, wait_until_delivered, waiting
from tests.support.ehr.fixture import own_ehr_server
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import Command
from tests.support.waiting import LIMIT, wait_until
from tests.support.workload import Store, is_enriched, of_patient, produce, undisturbed

EVENTS = int(os.environ.get("DELIVERY_EVENTS") or (10_000 if SIZES.long else 120))
KILLS = 9 if SIZES.long else 3
POISONED = 3


def in_order(count: int) -> Iterator[ProducerRecord]:
    """Yield events of all golden cases, each case for patients of its own, its events in their order."""
    number, left = 0, count
    while left > 0:
        for case in cases():
            for body in case.events:
                if is_enriched(body) or left <= 0:
                    continue
                received = Instant.parse("2024-06-01T12:00:00Z")
                assert received is not None
                renamed = orjson.dumps(of_patient(copy.deepcopy(body), number))
                yield raw_record(case.vendor, "acme", renamed, received, case.route_event, 64)
                left -= 1
            number += 1


@pytest.mark.parametrize("disturbed", ["in order", "shuffled", "kills"])
def test_what_the_topics_hold_arrives(kafka: Settings, show: Callable[..., None], disturbed: str) -> None:
    rng = random.Random(SIZES.seed)
    made = [*in_order(EVENTS)]
    if disturbed != "in order":
        rng.shuffle(made)
    raws = produce(kafka, made)
    patients = sorted({key.split(" ")[1] for key in undisturbed(kafka, raws) if key.startswith("fhir.r4.Patient ")})
    poisoned = set(rng.sample(patients, POISONED))
    with (
        own_ehr_server(durable=disturbed == "kills") as server,
        FaultProxy(server.base, poisoned=[item.partition("/")[2] for item in poisoned]) as proxy,
        Workers(kafka, 1) as workers,
    ):
        began = time.monotonic()
        deliveries = [delivering(kafka, proxy.base)]
        process = deliveries[0].__enter__()
        try:
            for kill in range(KILLS if disturbed == "kills" else 0):
                wait_for_some(proxy, rng.randrange(1, 1 + EVENTS // (2 * KILLS)), process)
                if kill % 3 == 0:
                    process.kill()
                    deliveries.append(delivering(kafka, proxy.base))
                    process = deliveries[-1].__enter__()
                elif kill % 3 == 1:
                    rng.choice(workers.here).kill()
                else:
                    server.kill()
                    server.start()
            wait_drained(kafka)
            wait_until_delivered(kafka, process, patience=LIMIT if not SIZES.long else 3_600)
            seconds = time.monotonic() - began
        finally:
            for delivery in reversed(deliveries):
                delivery.__exit__(None, None, None)
        store = Store(kafka)
        store.read_to_the_end()
        store.close()
        parked = waiting(kafka)
        theirs = {key for item in parked for key in item["keys"]}
        expected = {
            name.partition(" ")[2]: value
            for name, value in store.values.items()
            if name.startswith("fhir.r4.")
            and not name.startswith("fhir.r4.bundle")
            and len(store.partitions[name]) == 1
        }
        assert {patient for item in parked for patient in item["patients"]} == poisoned
        delivered = {key: value for key, value in expected.items() if key not in theirs or shared(key)}
        assert differing(server, delivered) == []
        assert bumped(server, kafka, [key for key in delivered if not shared(key)]) == []
        proxy.poisoned.clear()
        with delivering(kafka, proxy.base) as process:
            assert run_command("deliver", "resume", "--all", settings=kafka).returncode == 0
            wait_until(lambda: not waiting(kafka) or not process.running, lambda: process.report("does not resume"))
        assert differing(server, expected) == []
        show(
            f"{disturbed}: {len(raws)} events, {len(expected)} resources, {POISONED} patients poisoned and parked, "
            f"{seconds:.0f} s: 0 differ",
            workers,
        )


def wait_for_some(proxy: FaultProxy, requests: int, process: Command) -> None:
    """Wait until so many more transactions have reached the server."""
    before = proxy.passed
    wait_until(lambda: proxy.passed >= before + requests, lambda: process.report("sends nothing"))


def shared(key: str) -> bool:
    return key.partition("/")[0] in SHARED_TYPES
