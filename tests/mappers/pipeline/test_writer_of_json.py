"""The writer of JSON keeps within its memory, whatever a sender nests.

orjson 3.12 and 3.13 wrote past the end of their buffer: a webhook of 40 kB, 20 levels deep, aborted the gateway, and
each worker that read it from the raw topic.
"""

import os
import subprocess
import sys
from itertools import product
from typing import Any

import orjson
import pytest

from tests.support.waiting import LIMIT

LEAVES: tuple[Any, ...] = ("tos", None, [], {})
ITEMS: tuple[Any, ...] = (None, True, 0, 10**15, 1.5, "", [], {})
SIZES = ((5, 8, 300), (20, 4, 30), (20, 8, 333), (40, 1, 30), (40, 16, 33), (60, 2, 333), (200, 1, 30), (200, 1, 1_000))
"""Levels, items beside the next level, and times that the whole is there."""


def nested(levels: int, leaf: Any, beside: list[Any], as_objects: bool) -> Any:
    value = leaf
    for _ in range(levels):
        value = {"a": value} | {str(at): item for at, item in enumerate(beside)} if as_objects else [value, *beside]
    return value


def write_all(as_objects: bool) -> None:
    for (levels, count, times), leaf, item in product(SIZES, LEAVES, ITEMS):
        orjson.dumps([nested(levels, leaf, [item] * count, as_objects)] * times)


@pytest.mark.parametrize("as_objects", [False, True])
def test_nothing_is_written_past_the_end_of_the_buffer(as_objects: bool) -> None:
    """Python's debugging allocator checks the bytes behind each block, and aborts the process."""
    program = f"from {__name__} import write_all; write_all({as_objects}); print('written')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr[-2_000:]
