"""The memory of a process, as Linux counts it."""

from pathlib import Path


def peak_memory(pid: int | str = "self") -> int:
    """Return the most memory that a process has used since it began its program, in MiB.

    ``getrusage`` is of no use for this: its ``ru_maxrss`` begins with what the process that started this one had used.
    """
    return _status(pid, "VmHWM:")


def used_memory(pid: int | str = "self") -> int:
    """Return the memory that a process uses now, in MiB."""
    return _status(pid, "VmRSS:")


def _status(pid: int | str, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1_024
