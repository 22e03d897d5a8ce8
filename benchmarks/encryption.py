"""What encryption costs: worker and gateway without and with it, one after the other in the same run."""

import secrets

from benchmarks.broker import Kind
from benchmarks.gateway import gateway
from benchmarks.throughput import WORKER, Figures, throughput

TIMES = 2
"""Runs of each: without, with, with, without, so that a machine that grows slower or faster hits both alike."""


def encryption(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure both, and return the ratios of CPU time an event."""
    held = f"index:{secrets.token_hex(32)} 2026-01:{secrets.token_hex(32)}"
    worker, sealing_worker, received, sealing = 0.0, 0.0, 0.0, 0.0
    for turn in range(TIMES):
        for on in (False, True) if turn % 2 == 0 else (True, False):
            at_work = throughput(WORKER, kind, events, partitions, held if on else None)
            at_door = gateway(kind, events, partitions, held if on else None)
            if on:
                sealing_worker += 1e6 / at_work["events per CPU-second"] / TIMES
                sealing += 1e6 / at_door["webhooks per CPU-second"] / TIMES
            else:
                worker += 1e6 / at_work["events per CPU-second"] / TIMES
                received += 1e6 / at_door["webhooks per CPU-second"] / TIMES
    return {
        "worker, CPU-µs an event": worker,
        "worker encrypted, CPU-µs an event": sealing_worker,
        "worker, times the CPU": sealing_worker / worker,
        "gateway, CPU-µs a webhook": received,
        "gateway encrypted, CPU-µs a webhook": sealing,
        "gateway, times the CPU": sealing / received,
    }
