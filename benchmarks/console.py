"""How long the console's pages take. A worker has mapped the events, and one in twenty more became a dead letter."""

import statistics
import time
from collections.abc import Iterator
from itertools import chain
from urllib.parse import urlencode

import orjson

from benchmarks.broker import Kind, broker, progress
from benchmarks.mix import BEGIN, MAX_DEPTH, TENANT, mix
from benchmarks.program import Program, fhirline, running
from benchmarks.tables import peak_memory
from benchmarks.throughput import WORKER
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support.console_pages import TOKEN, Visitor

Figures = dict[str, float]

TIMES = 20
"""Requests of each page, one after the other."""
LETTERS = 20
"""One dead letter for so many events."""
GROUP = "bench.console"
LONGEST_SECONDS = 900.0


def console(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure once: the first reading of all topics, then each page."""
    with broker(kind, partitions) as kafka:
        with progress(kafka) as outputs:
            stored = kafka.preload(chain(mix(events), unreadable(events // LETTERS)), now=True)
            environment = {**kafka.environment, "FHIRLINE_GROUP": GROUP}
            with running("worker", WORKER.command, environment) as worker:
                outputs.wait_for(events, [worker])
                worker.wait_until(lambda: kafka.lag(stored, GROUP) == 0, "all events are committed", LONGEST_SECONDS)
        environment |= {"FHIRLINE_CONSOLE_TOKEN": TOKEN, "FHIRLINE_CONSOLE_PORT": "0"}
        begun = time.perf_counter()
        with running("console", fhirline("console"), environment) as process:
            visitor = visiting(process)
            process.wait_until(lambda: read(visitor), "a console that has read the topics", LONGEST_SECONDS)
            seconds = time.perf_counter() - begun
            found: Figures = {
                "events": events,
                "dead letters": events // LETTERS,
                "seconds until all is read": seconds,
            }
            for name, path in pages(visitor):
                taken = [milliseconds(visitor, path) for _ in range(TIMES)]
                found |= {f"{name}, median ms": statistics.median(taken), f"{name}, slowest ms": max(taken)}
            return found | {"peak RSS MiB": peak_memory(process.pid)}


def unreadable(count: int) -> Iterator[ProducerRecord]:
    """Yield events without what their type needs. Each becomes a dead letter."""
    for number in range(count):
        body = orjson.dumps({"type": "status_update", "consultation_id": 10_000_000 + number})
        yield raw_record("altibbi", TENANT, body, Instant.at(BEGIN), None, MAX_DEPTH)


def visiting(process: Program) -> Visitor:
    """Wait until the console listens, and log in."""
    process.wait_until(lambda: bool(process.logged("console listening")), "a console that listens")
    return Visitor(process.logged("console listening")[0]["url"].rstrip("/")).log_in()


def read(visitor: Visitor) -> bool:
    return "still being read" not in visitor.get("/events").text


def pages(visitor: Visitor) -> list[tuple[str, str]]:
    """Return each page's name and an address that has much to show."""
    newest = visitor.get("/events").text.partition('href="/events/')[2].partition('"')[0]
    of_one_type = urlencode({"vendor": "altibbi", "type": "status_update"})
    return [
        ("pipeline", "/"),
        ("events", "/events"),
        ("events of one type", f"/events?{of_one_type}"),
        ("events with one flag", "/events?flag=source-data-kept"),
        ("event", f"/events/{newest}"),
        ("dead letters", "/dead-letters"),
        ("dead letters of one group", "/dead-letters/events?vendor=altibbi"),
        ("playground", "/playground"),
        ("terminology", "/terminology"),
    ]


def milliseconds(visitor: Visitor, path: str) -> float:
    begun = time.perf_counter()
    answer = visitor.get(path)
    assert answer.status == 200, f"{path}: {answer.status}"
    return (time.perf_counter() - begun) * 1e3
