"""``fhirline deliver`` against plain sequential POSTs of the same Bundles, on the same FHIR server, in turns.

The server is emptied before each, and warmed up once: a fresh JVM compiles its code in the first hundreds of requests.
It still gets faster afterwards, so that what ``deliver`` reaches is compared with the POSTs before it and after it.
The first Bundles of each way are not counted: broker and ``deliver`` are as fresh as the server was.
The client that posts sends every Bundle as the topic holds it, one after the other over one connection, and waits for
each answer. Nothing is pinned. Where the server had one core, several requests at a time could not be faster than one,
and where the broker shared that core, ``deliver`` would be compared on another server than the client is.
"""

import http.client
import statistics
import time
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import machine
from benchmarks.broker import STALLED_SECONDS, Broker, Kind, broker
from benchmarks.prepared import canonical, preload
from benchmarks.program import BenchmarkFailed, Program, fhirline, running
from fhirline.topics.declared import BUNDLE, RESOURCE_TYPES, canonical_topic
from tests.support.ehr.server import EhrServer
from tests.support.kafka.apache import free_ports

Figures = dict[str, float]

SHARE = 0.03
"""Share of the events asked for that is delivered: a Bundle takes a FHIR server some 30 ms."""

SEVERAL = 8
COUNTED = "fhirline_delivered_bundles_total"
WARM_UP = 100
QUICKEST = 0.01
"""Seconds a Bundle that a server needs at least. Nobody looks for the end before it can have come."""
FHIR_JSON = "application/fhir+json"


def delivery(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure the three ways once."""
    topics = (BUNDLE, *map(canonical_topic, RESOURCE_TYPES))
    records = [*canonical(max(20, int(events * SHARE)), partitions, topics)]
    bundles = [record.value or b"" for record in records if record.topic == BUNDLE]
    first = min(WARM_UP, len(bundles) // 3)
    with machine.on(machine.ALL), EhrServer() as server:
        post(server, bundles[:WARM_UP])
        sequential = [posted(server, bundles, first)]
        found = {"Bundles": float(len(bundles))}
        for requests, name in ((1, "one request at a time"), (SEVERAL, f"up to {SEVERAL} requests at a time")):
            server.clear()
            with broker(kind, partitions, machine.ALL) as kafka:  # the state of a delivery is on its broker
                preload(kafka, records)
                rate = delivered(kafka, server, requests, first, len(bundles))
            sequential.append(posted(server, bundles, first))
            found[f"deliver, {name}, Bundles/s"] = rate
            found[f"deliver, {name}, of sequential POSTs"] = rate / statistics.mean(sequential[-2:])
        found["sequential POSTs, Bundles/s"] = statistics.mean(sequential)
    return found


def posted(server: EhrServer, bundles: Sequence[bytes], uncounted: int) -> float:
    """Empty the server and send it all Bundles; return how many a second it took of those that count."""
    server.clear()
    post(server, bundles[:uncounted])
    return post(server, bundles[uncounted:])


def post(server: EhrServer, bundles: Sequence[bytes]) -> float:
    """Send Bundles one after the other; return how many a second the server took."""
    address = urlsplit(server.base)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port)
    begun = time.perf_counter()
    for bundle in bundles:
        connection.request("POST", address.path, bundle, {"Content-Type": FHIR_JSON, "Prefer": "return=minimal"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise BenchmarkFailed(f"the FHIR server answers {response.status} to a Bundle")
    seconds = time.perf_counter() - begun
    connection.close()
    return len(bundles) / seconds


def delivered(kafka: Broker, server: EhrServer, requests: int, uncounted: int, bundles: int) -> float:
    """Run ``deliver`` until all Bundles are delivered; return how many a second, once so many were."""
    [port] = free_ports(1)
    own = {
        "FHIRLINE_FHIR_SERVER": server.base,
        "FHIRLINE_DELIVER_REQUESTS": str(requests),
        "FHIRLINE_METRICS_PORT": str(port),
    }
    with running("deliver", fhirline("deliver"), {**kafka.environment, **own}, machine.ALL) as process:
        process.wait_until(lambda: bool(process.logged("delivering")), "ready")
        first = wait_for(process, port, max(1, uncounted))
        begun = last = time.perf_counter()
        done = first
        while done < bundles:
            time.sleep((bundles - done) * QUICKEST)  # a look costs deliver 2 ms of CPU
            if (now := wait_for(process, port, 0)) > done:
                done, last = now, time.perf_counter()
            elif time.perf_counter() - last > STALLED_SECONDS:
                raise BenchmarkFailed(f"{done:g} of {bundles} Bundles, and nothing for {STALLED_SECONDS:g} s")
        seconds = time.perf_counter() - begun
    if first == bundles:
        raise BenchmarkFailed(f"deliver: {bundles} Bundles are too few to measure, all came at once")
    return (bundles - first) / seconds


def wait_for(process: Program, port: int, least: int) -> float:
    """Return how many Bundles are delivered, once there are so many; a Bundle that is no change counts."""
    end = time.monotonic() + STALLED_SECONDS
    while True:
        process.check()
        time.sleep(0.05)
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=STALLED_SECONDS) as response:
                families = text_string_to_metric_families(response.read().decode())
        except OSError:  # it has just ended, which the next look tells
            if time.monotonic() > end:
                raise
            continue
        samples = (sample for family in families for sample in family.samples)
        counts = {sample.labels["outcome"]: sample.value for sample in samples if sample.name == COUNTED}
        if counts.get("refused") or counts.get("waiting"):
            raise BenchmarkFailed("the FHIR server refused a Bundle")
        if sum(counts.values()) >= least:
            return sum(counts.values())
        if time.monotonic() > end:
            raise BenchmarkFailed(f"deliver: no Bundle within {STALLED_SECONDS:g} s")
