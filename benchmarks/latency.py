"""From raw to canonical at a steady rate: how long until a consumer has what follows from an event.

Measured in this process by one clock, from the call that hands the raw record to librdkafka until a consumer has read
the event's Provenance, which is the last of its resources to be written. So it holds producer, broker, worker, broker
and consumer; what a consumer of another machine would add is its network. The worker has a core for itself, everything
else shares the other.
"""

import time
from typing import cast

from confluent_kafka import Message, Producer

from benchmarks.broker import Kind, broker, progress, send
from benchmarks.mix import mix
from benchmarks.program import BenchmarkFailed, running
from benchmarks.throughput import WORKER, Figures, wait_until_assigned
from fhirline.streams.kafka.clients import producer_config
from fhirline.streams.kafka.headers import EVENT_KEY, Headers, header

WARM_UP_SECONDS = 30.0
"""At the same rate, not counted: the fresh broker's JVM compiles its code, and what queues up by then is worked off."""

GIVE_UP_SECONDS = 60.0


def latency(rate: float, seconds: float, kind: Kind, partitions: int) -> Figures:
    """Events at ``rate`` a second, evenly spaced, for so many seconds after the warm-up."""
    warm_up = int(rate * WARM_UP_SECONDS)
    events = mix(warm_up + max(20, int(rate * seconds)))
    handed: dict[str, float] = {}
    arrived: dict[str, float] = {}
    with broker(kind, partitions) as kafka, progress(kafka) as outputs:
        producer = Producer(producer_config(kafka.settings, **{"linger.ms": 0}))
        with running("worker", WORKER.command, {**kafka.environment, "FHIRLINE_GROUP": "bench.latency"}) as worker:
            wait_until_assigned([worker], partitions)
            before, begun, sent = worker.usage(), time.perf_counter(), 0
            while len(arrived) < len(events):
                now = time.perf_counter()
                while sent < len(events) and now >= begun + sent / rate:
                    handed[events[sent].event_key] = time.perf_counter()
                    send(producer, events[sent], _delivered)
                    sent += 1
                producer.poll(0)
                due = begun + sent / rate - time.perf_counter() if sent < len(events) else 0.01
                for message in outputs.read(min(0.01, max(0.0, due))):
                    key = header(cast(Headers, message.headers() or []), EVENT_KEY) or ""
                    arrived.setdefault(key, time.perf_counter())
                if now > begun + len(events) / rate + GIVE_UP_SECONDS:
                    worker.check()
                    raise BenchmarkFailed(f"{len(arrived)} of {len(events)} events arrived")
            took, after = time.perf_counter() - begun, worker.usage()
        producer.flush(10)
    counted = [event.event_key for event in events[warm_up:]]
    waited = sorted((arrived[key] - handed[key]) * 1000 for key in counted)
    return {
        "rate events/s": len(events) / took,
        "events": len(counted),
        "p50 ms": percentile(waited, 0.5),
        "p99 ms": percentile(waited, 0.99),
        "greatest ms": waited[-1],
        "CPU of a core": (after.cpu - before.cpu) / took,
    }


def percentile(of: list[float], share: float) -> float:
    """Return the percentile of a sorted list, by the nearest rank."""
    return of[min(len(of) - 1, int(len(of) * share))]


def _delivered(error: object, _: Message) -> None:
    if error is not None:
        raise BenchmarkFailed(f"a raw record was not stored: {error}")
