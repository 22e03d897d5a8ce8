"""A file system of a few MiB, so that a disk can be full."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

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
    """Mount a file system in memory, as root or by sudo. Skip where this user may not; fail in CI, where it may."""
    path = Path(tempfile.mkdtemp(prefix="fhirline-disk-"))  # others may enter no folder of pytest
    path.chmod(0o755)
    as_root = () if os.geteuid() == 0 else ("sudo", "-n")
    try:
        _run(*as_root, "mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0777", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        path.rmdir()
        unavailable(getattr(error, "stderr", "").strip() or error)
    try:
        yield SmallDisk(path)
    finally:
        _run(*as_root, "umount", "--lazy", str(path))
        path.rmdir()


def unavailable(reason: object) -> NoReturn:
    """Skip where no file system can be mounted; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"mounting a file system is needed in CI: {reason}", pytrace=False)
    pytest.skip(f"this user may mount no file system: {reason}")


def _run(*arguments: str) -> None:
    subprocess.run(arguments, capture_output=True, text=True, check=True)
