"""Measure what encryption costs: worker and gateway without and with it, side by side in the same run.

Two gateways write to the same broker, and get the same webhooks in turns of `TURN`, so that whatever else the machine
does hits both alike. In the mix, three of ten webhooks are a patient's first, for which the gateway makes a data key
and waits until Kafka has it. A gateway that has run for a while knows the patients whose key it made within the last
hour. So a second pair gets the same webhooks before those that count.
"""

import asyncio
import secrets

import uvloop

from benchmarks.broker import Kind, broker
from benchmarks.gateway import WARM_UP, Senders, send
from benchmarks.throughput import WORKER, Figures, throughput

TIMES = 2
"""Runs of the worker: without, with, with, without, so that a machine that grows slower or faster hits both alike."""

TURN = 500
"""Webhooks that a gateway gets before the other does."""


def encryption(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure all, and return the ratios of CPU time an event."""
    held = f"index:{secrets.token_hex(32)} 2026-01:{secrets.token_hex(32)}"
    workers: dict[str | None, float] = {None: 0.0, held: 0.0}
    for turn in range(TIMES):
        for on in (None, held) if turn % 2 == 0 else (held, None):
            workers[on] += 1e6 / throughput(WORKER, kind, events, partitions, on)["events per CPU-second"] / TIMES
    worker, sealing_worker = workers.values()
    received, sealing = gateways(kind, events, partitions, held, known=False)
    received_known, sealing_known = gateways(kind, events, partitions, held, known=True)
    return {
        "worker, CPU-µs an event": worker,
        "worker encrypted, CPU-µs an event": sealing_worker,
        "worker, times the CPU": sealing_worker / worker,
        "gateway of the mix, CPU-µs a webhook": received,
        "gateway of the mix encrypted, CPU-µs a webhook": sealing,
        "gateway of the mix, times the CPU": sealing / received,
        "gateway of known patients, CPU-µs a webhook": received_known,
        "gateway of known patients encrypted, CPU-µs a webhook": sealing_known,
        "gateway of known patients, times the CPU": sealing_known / received_known,
        "gateway of the mix and worker, times the CPU": (sealing + sealing_worker) / (received + worker),
        "gateway of known patients and worker, times the CPU": (
            (sealing_known + sealing_worker) / (received_known + worker)
        ),
    }


def gateways(kind: Kind, count: int, partitions: int, held: str, known: bool) -> tuple[float, float]:
    """Return the CPU-µs a webhook of a gateway without and of one with encryption."""
    senders = Senders()
    with (
        broker(kind, partitions) as kafka,
        senders.gateway(kafka) as plain,
        senders.gateway(kafka, held) as sealing,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        warm_up = min(WARM_UP, count)
        requests = senders.requests(warm_up + count)
        for _, port in (plain, sealing):
            runner.run(send(requests if known else requests[:warm_up], port))
        used = {plain: 0.0, sealing: 0.0}
        for turn, at in enumerate(range(warm_up, len(requests), TURN)):
            for process, port in (plain, sealing) if turn % 2 == 0 else (sealing, plain):
                before = process.usage().cpu
                runner.run(send(requests[at : at + TURN], port))
                used[process, port] += process.usage().cpu - before
    return used[plain] / count * 1e6, used[sealing] / count * 1e6
