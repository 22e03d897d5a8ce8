"""The memory of a test's process, as Linux counts it."""

from pathlib import Path


def peak_memory() -> int:
    """Return the most memory that this process has used since it began its program, in MiB.

    ``getrusage`` is of no use for this: its ``ru_maxrss`` begins with what the process that started this one had used.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1_024
