"""The garbage collector of a process that runs for months, with half a million objects made at its start."""

import gc

YOUNG, MIDDLE, OLD = 700, 10, 100
"""Python's own thresholds but for the last, which is 10: a look at all that has grown old takes some 50 ms, in which no
event moves, and finds next to nothing; at ten, it was a fortieth of a worker's time (benchmarks/NOTES.md)."""


def tune_gc() -> None:
    """Keep the garbage collector from what was made until now: models, schemas, tables and modules.

    To be called once, at the end of a process's start. Looking less often at young objects too was tried, and costs
    more than it saves: batches of 50,000 objects leave the processor's caches (benchmarks/NOTES.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
