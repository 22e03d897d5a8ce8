"""Measure what encryption costs: worker and gateway without and with it, in turns in the same run.

In the mix, three of ten webhooks are a patient's first, for which the gateway makes a data key and waits until Kafka
has it. So the gateway is measured with patients whom it knows, too.
"""

import secrets

from benchmarks.broker import Kind
from benchmarks.gateway import gateway
from benchmarks.throughput import WORKER, Figures, throughput

TIMES = 2
"""Runs of each: without, with, with, without, so that a machine that grows slower or faster hits both alike."""


def encryption(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure both, and return the ratios of CPU time an event."""
    held = f"index:{secrets.token_hex(32)} 2026-01:{secrets.token_hex(32)}"
    worker, sealing_worker, received, sealing, received_known, sealing_known = [0.0] * 6
    for turn in range(TIMES):
        for on in (False, True) if turn % 2 == 0 else (True, False):
            at_work = throughput(WORKER, kind, events, partitions, held if on else None)
            at_door = gateway(kind, events, partitions, held if on else None)
            of_known = gateway(kind, events, partitions, held if on else None, known=True)
            if on:
                sealing_worker += 1e6 / at_work["events per CPU-second"] / TIMES
                sealing += 1e6 / at_door["webhooks per CPU-second"] / TIMES
                sealing_known += 1e6 / of_known["webhooks per CPU-second"] / TIMES
            else:
                worker += 1e6 / at_work["events per CPU-second"] / TIMES
                received += 1e6 / at_door["webhooks per CPU-second"] / TIMES
                received_known += 1e6 / of_known["webhooks per CPU-second"] / TIMES
    return {
        "worker, CPU-µs an event": worker,
        "worker encrypted, CPU-µs an event": sealing_worker,
        "worker, times the CPU": sealing_worker / worker,
        "gateway, CPU-µs a webhook": received,
        "gateway encrypted, CPU-µs a webhook": sealing,
        "gateway, times the CPU": sealing / received,
        "gateway of known patients, times the CPU": sealing_known / received_known,
        "gateway and worker, times the CPU": (sealing + sealing_worker) / (received + worker),
    }
