"""From raw events through the worker and the delivery to a real FHIR server: in order, shuffled, through a proxy that
answers with faults and demands tokens that expire, and while worker, delivery or server are killed.

Afterwards the GET of every id is its last canonical value, no resource has more versions than it had values (but for
those of `drop_folded`), and exactly the patients are parked that the server refuses. ``CRASH_FORM=long``: 10,000
events; ``DELIVERY_EVENTS`` sets a number.
"""

import copy
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.deliver.entries import SHARED_TYPES
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.crash.comparison import wait_drained
from tests.crash.sizes import SIZES
from tests.support.cases import cases
from tests.support.delivery import (
    changes,
    compared,
    delivering,
    letters,
    more_versions,
    run_command,
    wait_until_delivered,
    waiting,
)
from tests.support.ehr.fixture import EhrServers, own_ehr_server
from tests.support.ehr.server import EhrServer
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import Command
from tests.support.token_server import TokenServer
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import Workers
from tests.support.workload import Store, is_enriched, of_patient, produce, undisturbed

EVENTS = int(os.environ.get("DELIVERY_EVENTS") or (10_000 if SIZES.long else 120))
KILLS = 9 if SIZES.long else 3
POISONED = 3

FAULTS = ("409", "429", "503", "500", "cut", "slow", "hidden-429")
EACH = 40 if SIZES.long else 2
"""Faults of each kind."""

CLIENT, SECRET = "ours", "a secret"
USES = 100 if SIZES.long else 20
"""Requests that a token is good for: more than twice those that are in flight at once."""


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


@pytest.mark.parametrize("disturbed", ["in order", "shuffled", "faults", "kills"])
def test_what_the_topics_hold_arrives(
    kafka: Settings, show: Callable[..., None], ehr_server: EhrServers, disturbed: str
) -> None:
    rng = random.Random(SIZES.seed)
    made = [*in_order(EVENTS)]
    if disturbed != "in order":
        rng.shuffle(made)
    raws = produce(kafka, made)
    patients = sorted({key.split(" ")[1] for key in undisturbed(kafka, raws) if key.startswith("fhir.r4.Patient ")})
    poisoned = set(rng.sample(patients, POISONED))
    with (
        own_ehr_server(durable=True) if disturbed == "kills" else cleared(ehr_server()) as server,
        TokenServer({CLIENT: SECRET}, uses=USES) as tokens,
        FaultProxy(
            server.base,
            faults(rng) if disturbed == "faults" else (),
            tokens.accepts if disturbed == "faults" else lambda _: True,
            poisoned=[item.partition("/")[2] for item in poisoned],
        ) as proxy,
        Workers(kafka, 1) as workers,
    ):
        began = time.monotonic()
        environ = by_tokens(tokens) if disturbed == "faults" else {}
        deliveries = [delivering(kafka, proxy.base, **environ)]
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
        assert not proxy.faults
        assert {name: proxy.answered[name] for name in FAULTS} == dict.fromkeys(FAULTS, EACH * (disturbed == "faults"))
        assert tokens.asked > 2 or disturbed != "faults"
        store = Store(kafka)
        store.read_to_the_end()
        store.close()
        held = {
            name.partition(" ")[2]: value
            for name, value in store.values.items()
            if name.startswith("fhir.r4.") and not name.startswith("fhir.r4.bundle")
        }
        assert [name for name in store.values if len(store.partitions[name]) > 1] == [], "which value is the last one?"
        most = changes(kafka)
        parked = waiting(kafka)
        assert {patient for item in parked for patient in item["patients"]} == poisoned
        assert len(letters(kafka)) == sum(item["refused"] for item in parked)
        theirs = {key for item in parked for key in item["keys"]}
        delivered = {key: value for key, value in held.items() if key not in theirs or shared(key)}
        wrong, versions = compared(server, delivered)
        assert wrong == []
        assert more_versions(drop_folded(versions), most) == []
        proxy.poisoned.clear()
        with delivering(kafka, proxy.base, **environ) as process:
            assert run_command("deliver", "resume", "--all", settings=kafka).returncode == 0
            wait_until(lambda: not waiting(kafka) or not process.running, lambda: process.report("does not resume"))
        wrong, versions = compared(server, held)
        assert wrong == []
        assert more_versions(drop_folded(versions), most) == []
        show(
            f"{disturbed}: {len(raws)} events, {len(held)} resources, {POISONED} patients poisoned and parked with "
            f"{len(parked)} Bundles, {seconds:.0f} s: 0 differ, 0 have more versions than values",
            *([f"faults: {dict(proxy.answered)}; tokens: {tokens.asked}"] if disturbed == "faults" else []),
            workers,
        )


def faults(rng: random.Random) -> list[int | str | None]:
    """Return the faults of each kind between answers of the server, so that no transaction meets conflicts only."""
    found = [*map(int_or_word, FAULTS * EACH), *[None] * (2 * EACH * len(FAULTS))]
    rng.shuffle(found)
    return found


def int_or_word(fault: str) -> int | str:
    return int(fault) if fault.isdigit() else fault


def by_tokens(tokens: TokenServer) -> dict[str, str]:
    return {
        "FHIRLINE_FHIR_AUTH": "client_secret_basic",
        "FHIRLINE_FHIR_OAUTH_CLIENT_ID": CLIENT,
        "FHIRLINE_FHIR_OAUTH_CLIENT_SECRET": SECRET,
        "FHIRLINE_FHIR_OAUTH_TOKEN_URL": tokens.url,
        "FHIRLINE_DELIVER_TIMEOUT": "8",  # what is slow takes as long
    }


@contextmanager
def cleared(server: EhrServer) -> Iterator[EhrServer]:
    """A server that other tests use, too: empty, and empty again afterwards."""
    server.clear()
    try:
        yield server
    finally:
        server.clear()


def wait_for_some(proxy: FaultProxy, requests: int, process: Command) -> None:
    """Wait until so many more transactions have reached the server."""
    before = proxy.passed
    wait_until(lambda: proxy.passed >= before + requests, lambda: process.report("sends nothing"))


def shared(key: str) -> bool:
    return key.partition("/")[0] in SHARED_TYPES


def drop_folded(versions: dict[str, str]) -> dict[str, str]:
    """Leave out Practitioners and Schedules. The copy of a Bundle goes first where their topic is late.

    That is one version more than the topic had values (docs/delivery.md, "What is proven").
    """
    return {key: version for key, version in versions.items() if not key.startswith(("Practitioner/", "Schedule/"))}
