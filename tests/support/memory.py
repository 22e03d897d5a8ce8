"""The memory of a process, as Linux counts it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_GROUPS = Path("/sys/fs/cgroup/memory")
"""Control groups of memory, version 1."""


def can_limit_memory() -> bool:
    """Return whether this process may make control groups of memory, as a container's limit is one."""
    return (_GROUPS / "memory.limit_in_bytes").exists() and os.access(_GROUPS, os.W_OK)


@contextmanager
def limited(mebibytes: int) -> Iterator[Sequence[str]]:
    """Make a control group with a limit of memory; yield the words before a command that run it there.

    The kernel ends a process that takes more. The group is removed behind the ``with``, when it has no process.
    """
    group = _GROUPS / f"fhirline-tests-{uuid4()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(mebibytes << 20))
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "limited")
    finally:
        group.rmdir()


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
