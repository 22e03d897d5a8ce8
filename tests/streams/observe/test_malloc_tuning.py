"""Large texts that are freed go back to the system, whatever was freed before."""

import platform
import subprocess
import sys

import pytest

FREED = """
import sys
from fhirline.streams.observe.malloc_tuning import release_memory, tune_malloc
from tests.support.memory import used_memory

if sys.argv[1] == "tuned":
    assert tune_malloc()
before = used_memory()
"x" * 30_000_000  # is freed at once: glibc now takes what is smaller from its heap
texts = [bytearray(b"x" * 1_000_000) for _ in range(200)]
kept = [bytes(100_000) for _ in range(60)]  # fills what was free, and lies behind them
del texts
if sys.argv[1] == "released":
    release_memory()
print(used_memory() - before)
"""


def kept(how: str) -> int:
    """Return the MiB that a process keeps after it has freed 200 MB of texts."""
    return int(subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_texts_go_back_to_the_system() -> None:
    """Measure what stays: the 6 MB that are kept, and without setting or call the pages of freed texts, too."""
    assert kept("tuned") < 50
    assert kept("released") < 50
    assert kept("as it is") > 150  # otherwise glibc has changed, and nothing needs to be set
