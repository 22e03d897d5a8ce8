"""A file system of a few MiB, so that a disk can be full."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system. `fill` takes all its space but a rest, and `free` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, rest: int = 0) -> None:
        """Leave ``rest`` bytes."""
        found = os.statvfs(self.path)
        with self._filler.open("ab") as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), max(1, found.f_bavail * found.f_frsize - rest))

    def free(self) -> None:
        self._filler.unlink()


def mounted(mebibytes: int) -> Iterator[SmallDisk]:
    """Mount a file system in memory; skip where this user may not."""
    path = Path(tempfile.mkdtemp(prefix="fhirline-disk-"))  # others may enter no folder of pytest
    path.chmod(0o755)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0777", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        path.rmdir()
        pytest.skip(f"this user may mount no file system: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        path.rmdir()
