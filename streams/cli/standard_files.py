"""The standard files of a command: a closed one is replaced, and a failed write of a result is found."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any


class StandardOutput(io.FileIO):
    """Standard output that keeps its first error as ``failure``. What is written after it is discarded."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes, or what has the buffer protocol. Raises OSError once, where the file takes none."""
        if self.failure is not None:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def watched_output() -> StandardOutput | None:
    """Put `StandardOutput` in the place of ``sys.stdout``, and files in the places of closed ones.

    Returns None where ``sys.stdout`` is not the process's own, as in tests. A closed standard output refuses what is
    written; a closed standard error takes it, since nobody can be told; a closed standard input is at its end. A
    character that the locale's encoding does not have is written as an escape (``\\u2192``).
    """
    _occupy_closed()
    if sys.stdout is not sys.__stdout__:
        return None
    given = sys.stdout
    encoding, through = (given.encoding, given.write_through) if given else ("utf-8", False)
    output = StandardOutput(1, "wb", closefd=False)
    unbuffered = isinstance(getattr(given, "buffer", None), io.RawIOBase)
    sys.stdout = io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),  # as Python itself makes it
        encoding=encoding,
        errors="backslashreplace",  # as standard error has it
        line_buffering=output.isatty(),
        write_through=through,
    )
    return output


def flush_output() -> None:
    """Write what ``sys.stdout`` still holds. An error is in `StandardOutput.failure`."""
    with suppress(OSError):
        sys.stdout.flush()


def ended_by_reader(failure: OSError) -> bool:
    """Tell whether the reader of a pipe ended before the result did, as ``head`` does."""
    return failure.errno == errno.EPIPE


def _occupy_closed() -> None:
    """Open the null device for each closed standard file, so that no other file takes its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # opened with the lowest free number, which is this one
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, "rb", closefd=False), encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "wb", closefd=False), encoding="utf-8", write_through=True)
