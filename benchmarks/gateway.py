"""Webhooks a second: 64 connections that are kept alive, each sending its next webhook when the last was answered.

The client is a few lines over asyncio's protocols, so that it costs little on the core that it shares with the broker;
the gateway has a core for itself. An answer is 202, and comes when Kafka has acknowledged the event (acks=all).
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

from benchmarks import machine
from benchmarks.broker import Broker, Kind, broker
from benchmarks.latency import percentile
from benchmarks.mix import TENANT, events
from benchmarks.program import BenchmarkFailed, Program, fhirline, running
from benchmarks.throughput import Figures
from fhirline.config.vendors import load_vendors

CONNECTIONS = 64
WARM_UP = 2_000
"""Webhooks, at most as many as count, that do not count: the fresh broker's JVM compiles its code."""
TIMEOUT = 300.0


def gateway(kind: Kind, count: int, partitions: int) -> Figures:
    """One run of ``count`` webhooks of the mix, after the warm-up."""
    senders = Senders()
    with broker(kind, partitions) as kafka, senders.gateway(kafka) as (process, port):
        warm_up = min(WARM_UP, count)
        requests = senders.requests(warm_up + count)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(send(requests[:warm_up], port))
            before, broker_before, begun = process.usage(), machine.usage(kafka.pid), time.perf_counter()
            waited = sorted(runner.run(send(requests[warm_up:], port)))
            seconds = time.perf_counter() - begun
        after, broker_after = process.usage(), machine.usage(kafka.pid)
    cpu = max(machine.TICK, after.cpu - before.cpu)
    return {
        "webhooks": len(waited),
        "webhooks/s": len(waited) / seconds,
        "webhooks per CPU-second": len(waited) / cpu,
        "p50 ms": percentile(waited, 0.5) * 1000,
        "p99 ms": percentile(waited, 0.99) * 1000,
        "CPU of a core": cpu / seconds,
        "broker's CPU of a core": (broker_after.cpu - broker_before.cpu) / seconds,
        "RSS MiB": after.rss,
    }


class Senders:
    """The vendors' secrets, what they send, and gateways that know the secrets."""

    def __init__(self) -> None:
        held = {vendor: secrets.token_urlsafe(24) for vendor in load_vendors().names}
        credentials = {vendor: load_vendors()[vendor].defaults.credential for vendor in held}
        self._environment = {item.secrets[0]: held[vendor] for vendor, item in credentials.items() if item}
        self._proofs = {
            vendor: f"{item.header}: {item.prefix}{held[vendor]}\r\n" if item else ""
            for vendor, item in credentials.items()
        }

    def requests(self, count: int) -> list[bytes]:
        """Return webhooks of the mix."""
        return [_request(event.vendor, event.body, self._proofs[event.vendor]) for event in events(count)]

    @contextmanager
    def gateway(self, kafka: Broker, encryption: str | None = None) -> Iterator[tuple[Program, int]]:
        """Start a gateway; its process and port. ``encryption``: the secrets to seal events with."""
        with tempfile.TemporaryDirectory(prefix="fhirline-bench-") as folder:
            port_file = Path(folder) / "port"
            command = (*fhirline("gateway"), "--port", "0", "--port-file", str(port_file))
            set_too = {"FHIRLINE_ENCRYPTION": encryption} if encryption else {}
            with running("gateway", command, {**kafka.environment, **self._environment, **set_too}) as process:
                process.wait_until(lambda: port_file.exists() and port_file.read_text().strip() != "", "listening")
                yield process, int(port_file.read_text())


def _request(vendor: str, body: bytes, proof: str) -> bytes:
    head = f"POST /webhooks/{vendor}/{TENANT} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    return f"{head}{proof}content-length: {len(body)}\r\n\r\n".encode() + body


async def send(requests: list[bytes], port: int) -> list[float]:
    """Send all over `CONNECTIONS`; the seconds that each waited for its answer."""
    left, loop = iter(requests), asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Connection(left), "127.0.0.1", port)
        for _ in range(min(CONNECTIONS, len(requests)))
    ]
    try:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*(connection.done for _, connection in opened))
    except TimeoutError:
        raise BenchmarkFailed(f"the gateway did not answer all webhooks within {TIMEOUT:g} s") from None
    finally:
        for transport, _ in opened:
            transport.close()
    return [seconds for _, connection in opened for seconds in connection.waited]


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request, until there are no more."""

    def __init__(self, left: Iterator[bytes]) -> None:
        self._left = left
        self._answer = b""
        self._begun = 0.0
        self.waited: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class does not declare it
        self._next()

    def _next(self) -> None:
        if (request := next(self._left, None)) is None:
            self._finish(None)
            return
        self._begun = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, ended, body = self._answer.partition(b"\r\n\r\n")
        if not ended:
            return
        if not head.startswith(b"HTTP/1.1 202 "):
            self._finish(BenchmarkFailed(f"the gateway answered {head[:60]!r} {body[:200]!r}"))
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(body) >= int(length):
            self._answer = b""
            self.waited.append(time.perf_counter() - self._begun)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(error or BenchmarkFailed("the gateway closed a connection"))

    def _finish(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
