"""Garbage collection in a process that runs for months, with half a million objects created at its start."""

import gc

YOUNG, MIDDLE, OLD = 700, 10, 100
"""Python's thresholds, with 100 instead of 10 for the oldest generation. Collecting it takes about 50 ms, in which no
event is processed, and frees next to nothing. At 10 it took 2.5 % of a worker's time (benchmarks/NOTES.md)."""


def tune_gc() -> None:
    """Exclude all objects created so far (models, schemas, tables, modules) from garbage collection.

    Call it once, at the end of a process's start. A larger threshold for young objects was tried and costs more than it
    saves: batches of 50,000 objects do not fit the processor's caches (benchmarks/NOTES.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
