"""Garbage collection in a process that runs for months, with half a million objects created at its start."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 262_144
"""Bytes of a body from which on the garbage collector waits until all of it has been read. Parsed JSON has no cycles,
and collections while a million objects are made take most of the time."""

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


@contextmanager
def collector_suspended(body: bytes | None) -> Iterator[None]:
    """Suspend the garbage collector while a large body is worked on, and restore it as it was."""
    suspend = body is not None and len(body) >= LARGE and gc.isenabled()
    if suspend:
        gc.disable()
    try:
        yield
    finally:
        if suspend:
            gc.enable()
