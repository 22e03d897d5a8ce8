"""Files and folders that only their owner can read, whatever the umask is (modes 0600 and 0700)."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def open_private(path: Path, *, empty: bool = True) -> BinaryIO:
    """Open a file for writing, with mode 0600 before anything is written, also where it exists. Raises OSError.

    ``empty`` False keeps what an existing file contains. A device or a pipe keeps its mode.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, FILE_MODE)
            if empty:
                os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        raise


def make_private(path: Path) -> None:
    """Give a file mode 0600, and create it where it is missing. Raises OSError."""
    open_private(path, empty=False).close()


def private_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700. An existing one keeps its mode. Raises OSError."""
    if not path.is_dir():
        if path.parent != path:
            private_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)
