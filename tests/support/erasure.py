"""Patients to erase, how a test erases them, and how far a worker beside it has come."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.operate.erasure.aliases import aliases_of
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.mapped import CANONICAL
from fhirline.streams.operate.erasure.report import Report
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step4_normalize.raw_event import envelope_of
from tests.support import cli
from tests.support.replaying import committed
from tests.support.waiting import LIMIT
from tests.support.workload import Store, undisturbed

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"FHIRLINE_ERASURE_KEY": SECRET}
RECEIVED_AT = Instant("2024-07-01T12:00:00Z", (1_719_835_200, ""))


def busiest(raws: list[ConsumerRecord]) -> dict[str, Compartment]:
    """Return each vendor's patient with the most events, of those whose events lie under the patient's key only."""
    counted: dict[str, Counter[str]] = {}
    several = {raw.key for raw in raws if aliases_of(envelope_of(raw))}
    for raw in raws:
        key = (raw.key or b"").decode().partition("|")[2]
        if "/" not in key and raw.key not in several:  # "/": an event that names no patient
            counted.setdefault(raw.vendor, Counter())[key] += 1
    return {vendor: Compartment(vendor, "acme", of.most_common(1)[0][0]) for vendor, of in counted.items()}


def of(raw: ConsumerRecord, patients: Iterable[Compartment]) -> bool:
    return any(raw.vendor == patient.vendor and raw.key == patient.raw_key.encode() for patient in patients)


def changed(raws: list[ConsumerRecord], patient: Compartment, **more: object) -> ProducerRecord:
    """Make a new event like one of the patient's."""
    raw = next(raw for raw in raws if of(raw, [patient]))
    body = orjson.dumps({**orjson.loads(raw.value or b""), **more})
    route = header(raw.headers, "event-type")
    return raw_record(raw.vendor, patient.tenant, body, RECEIVED_AT, route, 64)


def ordered(raws: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    return sorted(raws, key=lambda raw: (raw.topic, raw.partition, raw.offset))


def canonical_names(settings: Settings, raws: Iterable[ConsumerRecord]) -> set[str]:
    """``topic key`` of the canonical records that these events make and that belong to their patients."""
    return {name for name in undisturbed(settings, raws) if name.partition(" ")[0] in CANONICAL}


def erase(settings: Settings, patient: Compartment, settle: float | None = 0) -> Report:
    erasure = Erasure(settings, patient)
    try:
        return erasure.erase(erasure.find(), settle)
    finally:
        erasure.close()


def fhirline(settings: Settings, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return cli.run(
        "forget", *arguments, env={**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **more}, stdin=stdin
    )


def all_committed(settings: Settings, raws: Iterable[ConsumerRecord]) -> bool:
    """Tell whether the worker has committed every one of these events, mapped or not."""
    done = committed(settings)
    return all(done.get(raw.topic_partition, 0) > raw.offset for raw in raws)


def values(store: Store, of: Iterable[str]) -> dict[str, bytes]:
    """Return the store's values of these names; of messages, which a repeat makes anew, only that they are there."""
    return {name: store.values[name] for name in of if name in store.values}


class Followed(Protocol):
    """A process, or the processes of a member that is started again."""

    @property
    def running(self) -> bool: ...

    def report(self, what: str) -> str: ...


def wait_until(condition: Callable[[], bool], store: Store, worker: Followed) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, worker.report("is")
        assert worker.running, worker.report("has ended")
        store.read(0.1)
