"""Measure how long the console's pages take.

The topics hold a worker's records, and a dead letter for every twenty events.
"""

import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from urllib.parse import urlencode

import orjson

from benchmarks.broker import Kind, broker
from benchmarks.core import core
from benchmarks.mix import BEGIN, MAX_DEPTH, TENANT, mix
from benchmarks.prepared import preload
from benchmarks.program import Program, fhirline, running
from benchmarks.tables import peak_memory
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.console.event_progress import PROVENANCE
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import BUNDLE, OUTCOME
from fhirline.topics.partition import partition_for
from tests.support.console_pages import TOKEN, Answer, Visitor

Figures = dict[str, float]

TIMES = 20
"""Requests of each page, one after the other."""
LETTERS = 20
"""One dead letter for so many events."""
LONGEST_SECONDS = 900.0

OF_ONE_TYPE = urlencode({"vendor": "altibbi", "type": "status_update"})
PAGES = [
    ("pipeline", "/"),
    ("partitions of one topic", "/pipeline/partitions?topic=raw.altibbi&group=fhirline"),
    ("topics", "/pipeline/topics"),
    ("group", "/pipeline/group?name=fhirline"),
    ("latency of one type", f"/pipeline/latency?{OF_ONE_TYPE}"),
    ("events", "/events"),
    ("events of one type", f"/events?{OF_ONE_TYPE}"),
    ("events of one type that are mapped", f"/events?{OF_ONE_TYPE}&became=mapped"),
    ("events of one type since a time", f"/events?{OF_ONE_TYPE}&since=2020-01-01T00:00:00Z"),
    ("events with one flag", "/events?flag=source-data-kept"),
    ("dead letters", "/dead-letters"),
    ("dead letters of one group", "/dead-letters/events?vendor=altibbi"),
    ("patients that wait", "/dead-letters/waiting"),
    ("changes", "/changes"),
    ("search of a patient", "/patients"),
    ("playground", "/playground"),
    ("sample of the playground", "/playground?sample=altibbi%20status_update"),
    ("terminology", "/terminology"),
    ("rows of a table", "/terminology/frequency"),
    ("audit", "/audit"),
]
"""Each page of the navigation, and those that they lead to, by names."""


def console(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure once: the first reading of all topics, then each page."""
    raws = [*chain(mix(events), unreadable(events // LETTERS))]
    with broker(kind, partitions) as kafka:
        kafka.preload(raws, now=True)
        preload(kafka, mapped(raws, partitions))
        environment = {**kafka.environment, "FHIRLINE_CONSOLE_TOKEN": TOKEN, "FHIRLINE_CONSOLE_PORT": "0"}
        begun = time.perf_counter()
        with running("console", fhirline("console"), environment) as process:
            visitor = visiting(process)
            process.wait_until(lambda: read(visitor), "a console that has read the topics", LONGEST_SECONDS)
            seconds = time.perf_counter() - begun
            found: Figures = {"events": events, "dead letters": events // LETTERS, "seconds until all is read": seconds}
            for name, asked in [*pages(visitor), timeline(visitor)]:
                taken = [milliseconds(asked) for _ in range(TIMES)]
                found |= {f"{name}, median ms": statistics.median(taken), f"{name}, slowest ms": max(taken)}
            return found | {"peak RSS MiB": peak_memory(process.pid)}


def unreadable(count: int) -> Iterator[ProducerRecord]:
    """Yield events without what their type needs. Each becomes a dead letter."""
    for number in range(count):
        body = orjson.dumps({"type": "status_update", "consultation_id": 10_000_000 + number})
        yield raw_record("altibbi", TENANT, body, Instant.at(BEGIN), None, MAX_DEPTH)


def mapped(raws: Iterable[ProducerRecord], partitions: int) -> Iterator[ProducerRecord]:
    """Yield what a worker writes for these events to the topics that the console reads."""
    normalize = core("off")
    ends: Counter[TopicPartition] = Counter()
    states: dict[TopicPartition, InMemoryState] = defaultdict(InMemoryState)
    for raw in raws:
        partition = TopicPartition(raw.topic, partition_for(raw.key.decode(), partitions))
        made = map_event(raw.at(partition.partition, ends[partition]), normalize, states[partition], partitions)
        ends[partition] += 1
        states[partition].apply(made.state_updates)
        yield from (record for record in made.records if record.topic in (PROVENANCE, BUNDLE, OUTCOME) or made.error)


def visiting(process: Program) -> Visitor:
    """Wait until the console listens, and log in."""
    process.wait_until(lambda: bool(process.logged("console listening")), "a console that listens")
    return Visitor(process.logged("console listening")[0]["url"].rstrip("/")).log_in()


def read(visitor: Visitor) -> bool:
    """Tell whether the index has all events, and the pipeline has been read once."""
    return "still being read" not in visitor.get("/events").text and visitor.get("/pipeline/topics").status == 200


def pages(visitor: Visitor) -> list[tuple[str, Callable[[], Answer]]]:
    """Return each page's name, and the request for one that has much to show."""
    newest = visitor.get("/events").text.partition('href="/events/')[2].partition('"')[0]
    letter = visitor.get("/dead-letters/events").text.partition('href="/dead-letters/event?')[2].partition('"')[0]
    found = [*PAGES, ("event", f"/events/{newest}"), ("dead letter", f"/dead-letters/event?{letter}")]
    return [(name, partial(visitor.get, path)) for name, path in found]


def timeline(visitor: Visitor) -> tuple[str, Callable[[], Answer]]:
    """Return the request for a patient's timeline. As many as `TIMES` are answered at once, and no more."""
    newest = re.findall(r'href="(/events/[^"]+)"', visitor.get("/events?vendor=mediquo").text)  # all can be mapped
    made = (re.search(r"<code>(Patient/[^<]+)</code>", visitor.get(event).text) for event in newest)
    patient = next(found[1] for found in made if found)
    fields = {"patient": patient, "reason": "a benchmark", "form-token": visitor.form_token("/patients")}
    return "timeline of a patient", partial(visitor.post, "/patients", **fields)


def milliseconds(asked: Callable[[], Answer]) -> float:
    begun = time.perf_counter()
    answer = asked()
    assert answer.status == 200, f"{answer.status}: {answer.text[:200]}"
    return (time.perf_counter() - begun) * 1e3
