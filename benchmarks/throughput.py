"""The throughput of a worker: raw events lie ready, the worker starts, outputs are counted as they arrive."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

from pydantic import SecretStr

from benchmarks import machine
from benchmarks.broker import Broker, Kind, Progress, broker, progress
from benchmarks.mix import mix
from benchmarks.program import BenchmarkFailed, Program, fhirline, module, running
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import raw_topic
from tests.support.encryption import sealed

Figures = dict[str, float]

GROUP = "bench"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing a worker's job. ``share`` of the events asked for: fast ones need more, slow ones less."""

    name: str
    command: tuple[str, ...]
    share: float = 1.0

    def events(self, of: int) -> int:
        return max(1, int(of * self.share))


WORKER = Way("worker", fhirline("worker"))
WAYS = (
    WORKER,
    Way("idiomatic", (*module("benchmarks.idiomatic"), "worker", "--without-web"), 0.1),
    Way("floor", module("benchmarks.floor"), 2.0),
    Way("librdkafka", module("benchmarks.librdkafka"), 4.0),
)


def endless(count: int, most: int) -> Iterator[ProducerRecord]:
    """``count`` events of a mix of ``most``, again from its beginning where that is not enough."""
    return islice(cycle(mix(min(count, most))), count)


def throughput(way: Way, kind: Kind, events: int, partitions: int, encryption: str | None = None) -> Figures:
    """One run: a fresh broker, a fresh process on a core of its own. ``encryption``: events lie there sealed by it."""
    count = way.events(events)
    with broker(kind, partitions) as kafka, progress(kafka) as outputs:
        raws: Iterable[ProducerRecord] = endless(count, events)
        set_too = {}
        if encryption:
            set_too = {"FHIRLINE_ENCRYPTION": encryption}
            made, raws = sealed(kafka.settings.model_copy(update={"encryption": SecretStr(encryption)}), raws)
            kafka.preload(made)
        stored = kafka.preload(raws)
        group = f"{GROUP}.{way.name}"
        environment = {**kafka.environment, "FHIRLINE_GROUP": group, **set_too}
        with running(way.name, way.command, environment) as process:
            outputs.wait_for(1, [process])
            figures = _measured(kafka, outputs, count, [process])
        figures["lag after the end"] = kafka.lag(stored, group)
    return figures


def scaling(workers: int, kind: Kind, events: int, partitions: int) -> Figures:
    """Several workers of one group, which share all cores with the broker: nothing is pinned.

    They have their partitions before the events are written and stand still (SIGSTOP) while that happens, so that the
    group's joining is not measured. Measured from the moment they go on.
    """
    with ExitStack() as stack:
        kafka = stack.enter_context(broker(kind, partitions, machine.ALL))
        outputs = stack.enter_context(progress(kafka))
        processes: list[Program] = []
        for number in range(workers):
            environment = {**kafka.environment, "FHIRLINE_GROUP": GROUP}
            started = running(f"worker {number + 1}", WORKER.command, environment, machine.ALL)
            processes.append(stack.enter_context(started))
        wait_until_assigned(processes, partitions)
        for process in processes:
            process.pause()
        kafka.preload(mix(events))
        for process in processes:
            process.resume()
        return _measured(kafka, outputs, events, processes)


def wait_until_assigned(processes: list[Program], partitions: int) -> None:
    """Wait until the workers report that they have all raw partitions between them, each at least one."""
    wanted = sorted(f"{raw_topic(vendor)}/{number}" for vendor in VENDORS for number in range(partitions))

    def assigned() -> bool:
        latest = [logged[-1]["partitions"] if (logged := p.logged("partitions assigned")) else [] for p in processes]
        held = sorted(place for places in latest for place in places if place in wanted)
        return all(latest) and held == wanted

    processes[-1].wait_until(assigned, f"{len(processes)} workers with all {len(wanted)} partitions")


def _measured(kafka: Broker, outputs: Progress, count: int, processes: list[Program]) -> Figures:
    """Measure from now to the last event's output; CPU and clock are read at the same two moments."""
    begun, first = time.perf_counter(), outputs.count
    before, broker_before = [process.usage() for process in processes], machine.usage(kafka.pid)
    if first == count:
        raise BenchmarkFailed(f"{processes[0].name}: {count} events are too few to measure, all came at once")
    outputs.wait_for(count, processes)
    seconds = time.perf_counter() - begun
    after, broker_after = [process.usage() for process in processes], machine.usage(kafka.pid)
    cpu = max(machine.TICK, sum(b.cpu - a.cpu for a, b in zip(before, after, strict=True)))
    done = count - first
    resources, _ = kafka.written()
    per_event = resources / outputs.count
    return {
        "events": done,
        "events/s": done / seconds,
        "events per CPU-second": done / cpu,
        "resources/s": done * per_event / seconds,
        "resources per CPU-second": done * per_event / cpu,
        "CPU of a core": cpu / seconds / len(processes),
        "broker's CPU of a core": (broker_after.cpu - broker_before.cpu) / seconds,
        "RSS MiB": sum(item.rss for item in after) / len(processes),
    }
