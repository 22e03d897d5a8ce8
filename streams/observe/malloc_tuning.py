"""The C library's allocator in a process that works on texts of megabytes for months."""

import ctypes
import sys
from functools import cache
from typing import Any

_MMAP_THRESHOLD = -3
"""glibc's ``M_MMAP_THRESHOLD`` (``malloc.h``)."""

LARGE = 131_072
"""Bytes of an allocation from which on it has pages of its own, which go back to the system when it is freed."""


def tune_malloc() -> bool:
    """Return large allocations to the system as soon as they are freed; tell whether the C library can do so.

    glibc begins with this threshold, and raises it up to 32 MiB when such an allocation is freed. From then on texts
    and records of megabytes lie between small objects, and the memory between them stays with the process. A C library
    without ``mallopt`` is left as it is.
    """
    mallopt = _of_glibc("mallopt")
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, LARGE))


def release_memory() -> None:
    """Return freed memory to the system, also where it lies between objects that are in use. Takes milliseconds."""
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(0)


@cache
def _of_glibc(name: str) -> Any:
    """Return a function of Linux's C library by its name; None where it has none, and on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
