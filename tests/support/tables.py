"""Records for tests of ``fhirline tables``, and the command with a test's settings."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.streams.demo.webhooks import samples
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, produce
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.follower import Follower
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.topics import TOPICS, read_topics
from fhirline.topics.declared import SHARED_TYPES, canonical_topic
from fhirline.topics.partition import partition_for
from tests.support.cases import cases
from tests.support.kafka.producing import patient_producer
from tests.support.processes import Command, command
from tests.support.receiving import environment
from tests.support.waiting import LIMIT


def published(settings: Settings, rounds: int = 1) -> list[ProducerRecord]:
    """Return what workers publish of all golden cases, outcomes and Practitioners too, in ``rounds`` tenants a case.

    Keys that are written to two partitions are left out: which of their values is the last one is not defined
    (docs/delivery.md, "What is not there yet").
    """
    first = [record for number, case in enumerate(cases()) for record in _of_case(case, settings, f"case-{number}")]
    places: dict[bytes, set[int | None]] = {}
    for record in first:
        places.setdefault(record.key, set()).add(record.partition)
    first = [record for record in first if len(places[record.key]) == 1]
    return [_in_round(record, number) for number in range(rounds) for record in first]


def _in_round(record: ProducerRecord, number: int) -> ProducerRecord:
    """Return the record of another resource with the same content: its id, and all that refer to it, end otherwise."""
    if number == 0:
        return record
    resource_type, _, id = record.key.decode().partition("/")
    renamed = f"{id[:-4]}{number:04x}"
    value = (record.value or b"").replace(id.encode(), renamed.encode())
    return replace(record, key=f"{resource_type}/{renamed}".encode(), value=value)


def _of_case(case: Any, settings: Settings, tenant: str) -> Iterator[ProducerRecord]:
    normalize, memory = case.normalizer(), InMemoryState()
    for number, (envelope, body) in enumerate(zip(case.envelopes(), case.events, strict=True)):
        received = Instant.parse(envelope.received_at.text)
        assert received is not None
        raw = raw_record(case.vendor, tenant, orjson.dumps(body), received, case.route_event, 64).at(0, number)
        yield from _published(raw, normalize, memory, settings)


def of_the_demo(settings: Settings) -> Iterator[ProducerRecord]:
    """Return what workers publish of the webhooks that `make demo` sends, received on a morning of February 2025."""
    normalize, memory = build_normalizer(settings), InMemoryState()
    for number, sample in enumerate(samples()):
        received = Instant.parse(f"2025-02-03T08:{number:02}:00Z")
        assert received is not None
        event = sample.route.removeprefix("/") or None
        raw = raw_record(sample.vendor, "default", orjson.dumps(sample.body), received, event, 64).at(0, number)
        yield from _published(raw, normalize, memory, settings)


def _published(
    raw: ConsumerRecord, normalize: Normalizer, memory: InMemoryState, settings: Settings
) -> Iterator[ProducerRecord]:
    made = map_event(raw, normalize, memory, settings.partitions)
    memory.apply(made.state_updates)
    headers = next((record.headers for record in made.records if record.topic in TOPICS), [])
    yield from (record for record in made.records if record.topic in TOPICS)
    for output in made.normalized.outputs if made.normalized else ():
        if (resource_type := output.resource["resourceType"]) in SHARED_TYPES:
            partition = partition_for(output.key, settings.partitions)
            yield ProducerRecord(canonical_topic(resource_type), output.key.encode(), output.value, partition, headers)


def write(settings: Settings, records: Iterable[ProducerRecord]) -> None:
    producer = patient_producer(settings)
    for record in records:
        produce(producer, record)
        producer.poll(0)
    assert producer.flush(LIMIT) == 0


@contextmanager
def keeping(settings: Settings, *arguments: str, **environ: str) -> Iterator[Command]:
    """Run ``fhirline tables`` until the context ends."""
    own = {"FHIRLINE_PARTITIONS": str(settings.partitions), "FHIRLINE_SESSION_TIMEOUT": "6", **environ}
    with command("tables", *arguments, environ=environment(settings.bootstrap, **own)) as process:
        yield process


def keep_once(settings: Settings, *arguments: str, **environ: str) -> Command:
    """Run ``fhirline tables --once`` to its end."""
    with keeping(settings, "--once", *arguments, **environ) as process:
        process.wait(LIMIT)
    return process


def keep(settings: Settings, **how: bool) -> None:
    """Do in this process what ``fhirline tables --once`` does."""
    store = open_store(settings)
    try:
        follower = Follower(
            settings,
            store,
            load_catalog(settings),
            read_topics(settings),
            TablesMetrics(CollectorRegistry()),
            lambda: False,
            until_end=True,
        )
        follower.run(**how)
    finally:
        store.close()
