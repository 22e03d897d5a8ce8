"""An archive of the classes that a broker loads, with which others start in half the processor time.

The Java virtual machine maps the archive (class data sharing) instead of reading and verifying thousands of classes.
Where it does not fit, because Java has changed, say, the machine reads the classes as it always does.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def class_archive(java: str, jars: Path, make: Callable[[Path], None]) -> Path:
    """Return the archive beside the folder ``jars``, and have ``make`` write it if it is not there.

    Two test runs may ask at once: one makes it, the other waits for the lock. Where ``make`` leaves no file, the
    archive is an empty one, which a Java virtual machine ignores.
    """
    program = Path(java).resolve()
    made_by = f"{program} {program.stat().st_size} {program.stat().st_mtime_ns}"
    archive = jars.with_name(f"{jars.name}-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.jsa")
    if archive.exists():
        return archive
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            new = archive.with_suffix(".new")
            new.unlink(missing_ok=True)
            make(new)
            new.touch()
            os.rename(new, archive)
    return archive
