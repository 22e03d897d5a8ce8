"""The machine: what it is, which core a process may use, and what a process has used of it."""

import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("fhirline", "faust-streaming", "aiokafka", "confluent-kafka", "uvloop", "aiohttp"),
    *("fhir.resources", "pydantic", "pydantic-core", "orjson"),
)

CORES = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
PINNED = len(CORES) > 1
OTHERS: frozenset[int] | None = frozenset(CORES[:1]) if PINNED else None
"""Cores of broker, producers, consumers and clients; None where nothing can be pinned."""

MEASURED: frozenset[int] | None = frozenset(CORES[1:2]) if PINNED else None
"""The core that the measured process has for itself."""

ALL: frozenset[int] | None = frozenset(CORES) if PINNED else None


@contextmanager
def on(cores: frozenset[int] | None) -> Iterator[None]:
    """Bind the processes that are started inside to these cores, from their first instruction on."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(threading.get_native_id())
    os.sched_setaffinity(threading.get_native_id(), cores)
    try:
        yield
    finally:
        os.sched_setaffinity(threading.get_native_id(), before)


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a process has used so far: CPU-seconds (user and system), resident memory in MiB."""

    cpu: float
    rss: float


TICK = 1 / os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> Usage:
    """Read the usage from ``/proc`` (Linux); CPU time is in ticks of 10 ms."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
    return Usage((int(after_name[11]) + int(after_name[12])) * TICK, int(resident) / 1024)


STEAL = 8
"""Column of a core's line in ``/proc/stat``: ticks in which a virtual machine's host ran something else."""


def taken() -> float:
    """Seconds that the host has taken from our cores so far, a core's average. What they cost shows in no CPU time."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    ours = {f"cpu{core}" for core in CORES}
    return sum(int(line[STEAL]) for line in lines if line[0] in ours) * TICK / max(1, len(ours))


def described() -> dict[str, Any]:
    """Machine and versions, for the results."""
    return {
        "cpu": _cpu(),
        "cores": len(CORES) or os.cpu_count(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": sys.version.split()[0],
        "java": _java(),
        "pinned": PINNED,
    }


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _cpu() -> str:
    found = Path("/proc/cpuinfo")
    if not found.exists():
        return platform.processor() or "unknown"
    lines = found.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _java() -> str | None:
    if shutil.which("java") is None:
        return None
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return said.partition("\n")[0] or None
