"""Bundles of the golden cases for tests of the delivery: written to a broker, and compared with a FHIR server."""

import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import raw_key
from fhirline.streams.deliver.entries import entries_of
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, produce
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import (
    BUNDLE,
    DELIVERED,
    DELIVERY_LETTERS,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    canonical_topic,
    raw_topic,
)
from fhirline.topics.partition import partition_for
from tests.support import cli
from tests.support.cases import Case, cases
from tests.support.ehr.reads import comparable, different_elements, read_all
from tests.support.ehr.server import EhrServer
from tests.support.groups import committed
from tests.support.kafka.producing import patient_producer
from tests.support.processes import Command, command
from tests.support.receiving import environment
from tests.support.waiting import LIMIT, wait_until

Resource = dict[str, Any]


def golden_records(settings: Settings) -> Iterator[ProducerRecord]:
    """Return resources and Bundles that a worker publishes for all golden cases, in the order of their events.

    Each case is a tenant of its own: cases use the same ids for different patients.
    """
    for number, case in enumerate(cases()):
        yield from case_records(case, settings, f"case-{number}")


def case_records(case: Case, settings: Settings, tenant: str) -> Iterator[ProducerRecord]:
    normalize, memory = case.normalizer(), InMemoryState()
    for envelope, body in zip(case.envelopes(), case.events, strict=True):
        received = Instant.parse(envelope.received_at.text)
        assert received is not None
        raw = raw_record(case.vendor, tenant, orjson.dumps(body), received, case.route_event, 64).at(0, 0)
        made = map_event(raw, normalize, memory, settings.partitions)
        memory.apply(made.state_updates)
        yield from (record for record in made.records if record.topic.startswith("fhir.r4."))


@dataclass(frozen=True)
class Erasable:
    """A patient of a golden case, with the events on the raw topic, so that an erasure finds all of it.

    ``records``: the events, and what a worker publishes of them.
    """

    patient: Compartment
    records: tuple[ProducerRecord, ...]

    @property
    def bundles(self) -> list[ProducerRecord]:
        return [record for record in self.records if record.topic == BUNDLE]

    @property
    def keys(self) -> set[str]:
        """The patient's own resources, as ``Type/id``."""
        entries = [entry for record in self.bundles for entry in entries_of(record.value)]
        return {entry.key for entry in entries if entry.key.partition("/")[0] not in PATIENTLESS_TYPES}


def erasable(settings: Settings, of_each: int) -> list[Erasable]:
    """Return patients of two vendors, each of a tenant of its own. Their raw topics have to be empty."""
    offsets: Counter[TopicPartition] = Counter()
    counted: Counter[str] = Counter()
    found = []
    for number, case in enumerate(cases()):
        keys = {raw_key(envelope).partition("|")[2] for envelope in case.envelopes()}
        key = next(iter(keys), "")
        if (
            case.vendor not in ("altibbi", "mediquo")
            or len(keys) > 1
            or not key.isalnum()
            or counted[case.vendor] >= of_each
        ):
            continue
        counted[case.vendor] += 1
        tenant = f"case-{number}"
        patient = Compartment.of(case.vendor, tenant, key)
        place = TopicPartition(raw_topic(case.vendor), partition_for(patient.partition_key, settings.partitions))
        normalize, memory = case.normalizer(), InMemoryState()
        records: list[ProducerRecord] = []
        for envelope, body in zip(case.envelopes(), case.events, strict=True):
            event = raw_record(case.vendor, tenant, orjson.dumps(body), envelope.received_at, case.route_event, 64)
            made = map_event(event.at(place.partition, offsets[place]), normalize, memory, settings.partitions)
            memory.apply(made.state_updates)
            offsets[place] += 1
            records.append(replace(event, partition=place.partition))
            records += [record for record in made.records if record.topic.startswith("fhir.r4.")]
        found.append(Erasable(patient, tuple(records)))
    return found


def practitioners(settings: Settings, records: Iterable[ProducerRecord]) -> list[ProducerRecord]:
    """Return the Practitioners of Bundles as records of their topic, which a worker folds and writes by itself."""
    found = {
        entry.key: orjson.dumps(entry.resource)
        for record in records
        if record.topic == BUNDLE
        for entry in entries_of(record.value)
        if entry.key.startswith("Practitioner/")
    }
    topic = canonical_topic("Practitioner")
    return [
        ProducerRecord(topic, key.encode(), value, partition_for(key, settings.partitions))
        for key, value in found.items()
    ]


def write(settings: Settings, records: Iterable[ProducerRecord]) -> dict[str, bytes | None]:
    """Write records; return the last value of each canonical key, without keys that were written to two partitions.

    Which of their values is the last one is not defined: a survey whose first event does not say whose it is
    (docs/delivery.md, "What is not there yet").
    """
    producer = patient_producer(settings)
    last: dict[str, bytes | None] = {}
    places: dict[str, set[int | None]] = {}
    for record in records:
        produce(producer, record)
        producer.poll(0)
        if record.topic.startswith("fhir.r4.") and record.topic != BUNDLE:
            last[record.key.decode()] = record.value
            places.setdefault(record.key.decode(), set()).add(record.partition)
    assert producer.flush(LIMIT) == 0
    return {key: value for key, value in last.items() if len(places[key]) == 1}


@contextmanager
def delivering(settings: Settings, server: str, **more: str) -> Iterator[Command]:
    """Run ``fhirline deliver`` until the context ends."""
    own = {
        "FHIRLINE_SESSION_TIMEOUT": "6",
        "FHIRLINE_PARTITIONS": str(settings.partitions),
        "FHIRLINE_DELIVER_RETRY_FIRST": "0.05",
        "FHIRLINE_DELIVER_RETRY_LONGEST": "1",
        "FHIRLINE_DELIVER_TIMEOUT": "30",
    }
    environ = environment(settings.bootstrap, **{**own, **more})
    with command("deliver", "--server", server, environ=environ) as process:
        yield process


def run_command(*arguments: str, settings: Settings, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environ = environment(settings.bootstrap, FHIRLINE_PARTITIONS=str(settings.partitions), **more)
    return cli.run(*arguments, env=environ)


def lag(settings: Settings) -> int:
    """Return the Bundles that the delivery has not committed."""
    with Scanner(settings) as scanner:
        ends: dict[int, int] = dict.fromkeys(range(settings.partitions), 0)
        for message in scanner.read({TopicPartition(BUNDLE, number): None for number in ends}):
            ends[message.partition() or 0] = (message.offset() or 0) + 1
    done = committed(settings, f"{settings.group}.deliver", BUNDLE)
    return sum(end - done.get(number, 0) for number, end in ends.items())


def wait_until_delivered(settings: Settings, process: Command, but: int = 0, patience: float = LIMIT) -> None:
    """Wait until at most ``but`` Bundles are not committed."""

    def delivered() -> bool:
        assert process.running, process.report("has ended")
        return lag(settings) <= but

    wait_until(delivered, lambda: process.report("is stuck"), patience)


def records_of(settings: Settings, topic: str) -> dict[tuple[int, str], Any]:
    """Return the last value of each (partition, key) of a topic, as JSON; None for a tombstone."""
    found: dict[tuple[int, str], Any] = {}
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions([topic]))):
            key, value = (message.key() or b"").decode(), message.value()
            found[message.partition() or 0, key] = None if value is None else orjson.loads(value)
    return found


def letters(settings: Settings) -> dict[str, Any]:
    return {key: value for (_, key), value in records_of(settings, DELIVERY_LETTERS).items()}


def waiting(settings: Settings) -> list[Any]:
    """Return the Bundles that wait, by partition and key. A key is an offset, which several partitions may have."""
    found = records_of(settings, DELIVERED)
    return [found[place] for place in sorted(found) if place[1].startswith("waiting/") and found[place] is not None]


def differing(server: EhrServer, expected: Mapping[str, bytes | None]) -> list[str]:
    """Return the keys whose GET is not the expected value, apart from what the server adds to ``meta``."""
    return compared(server, expected)[0]


def compared(server: EhrServer, expected: Mapping[str, bytes | None]) -> tuple[list[str], dict[str, str]]:
    """Return the same, and the version of each resource at the server, from one GET of each."""

    def compare(key: str, has: Resource | None) -> tuple[str, str]:
        value, version = expected[key], "none" if has is None else has["meta"]["versionId"]
        wanted = None if value is None else comparable(orjson.loads(value))
        found = None if has is None else comparable(has)
        return "" if found == wanted else f"{key}: {different_elements(wanted, found)}", version

    read = read_all(server, expected, compare)
    return [line for line, _ in read.values() if line], {key: version for key, (_, version) in read.items()}


def changes(settings: Settings) -> dict[str, int]:
    """Return how often the value of each canonical key became another one, the first one counted."""
    last: dict[str, bytes | None] = {}
    counts: Counter[str] = Counter()
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions(map(canonical_topic, RESOURCE_TYPES)))):
            key, value = (message.key() or b"").decode(), message.value()
            counts[key] += key not in last or last[key] != value
            last[key] = value
    return counts


def bumped(server: EhrServer, settings: Settings, keys: Iterable[str]) -> list[str]:
    """Return the keys that have more versions at the server than their topic had values."""
    return more_versions(versions(server, keys), changes(settings))


def more_versions(found: Mapping[str, str], most: Mapping[str, int]) -> list[str]:
    return [key for key, version in found.items() if version.isdigit() and int(version) > most[key]]


def versions(server: EhrServer, keys: Iterable[str]) -> dict[str, str]:
    return read_all(server, keys, lambda _, has: "none" if has is None else str(has["meta"]["versionId"]))


@contextmanager
def filling(
    settings: Settings, server: str, *more: str, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Command]:
    """Run ``fhirline deliver --from topics`` until the context ends."""
    own = environment(
        settings.bootstrap,
        FHIRLINE_SESSION_TIMEOUT="6",
        FHIRLINE_PARTITIONS=str(settings.partitions),
        FHIRLINE_DELIVER_RETRY_FIRST="0.05",
        FHIRLINE_DELIVER_RETRY_LONGEST="1",
        **environ,
    )
    with command("deliver", "--server", server, "--from", "topics", *more, environ=own) as process:
        yield process


def filled(
    settings: Settings, server: str, *more: str, code: int = 0, environ: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a fill to its end; return the line of its counts."""
    with filling(settings, server, *more, environ=environ) as process:
        assert process.wait(LIMIT) == code, process.output
    [counts] = [line.partition(": ")[2] for line in process.printed if " sent before" in line]
    return counts
