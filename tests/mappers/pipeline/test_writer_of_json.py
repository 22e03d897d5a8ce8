"""The writer of JSON keeps within its memory, whatever a sender nests.

orjson 3.12 and 3.13 write past the end of their buffer from 20 levels on: a webhook of 40 kB aborted the gateway, and
each worker that read it from the raw topic. orjson 3.11 does so behind more than a hundred lists that end together.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from itertools import product
from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline import body
from tests.support.waiting import LIMIT

LEAVES: tuple[Any, ...] = ("tos", None, [], {})
ITEMS: tuple[Any, ...] = (None, True, 0, 10**15, 1.5, "", [], {})
SIZES = ((5, 8, 300), (20, 4, 30), (20, 8, 333), (40, 1, 30), (40, 16, 33), (60, 2, 333), (96, 1, 30), (96, 1, 1_000))
"""Levels, items beside the next level, and times that the whole is there."""


def nested(levels: int, leaf: Any, beside: list[Any], as_objects: bool) -> Any:
    value = leaf
    for _ in range(levels):
        value = {"a": value} | {str(at): item for at, item in enumerate(beside)} if as_objects else [value, *beside]
    return value


def write_all(as_objects: bool) -> None:
    for (levels, count, times), leaf, item in product(SIZES, LEAVES, ITEMS):
        orjson.dumps([nested(levels, leaf, [item] * count, as_objects)] * times)


def write_lists_that_end_together() -> None:
    for leaf, before in product((*LEAVES, *ITEMS, 1.2345678901234567e-100, -(2**63)), range(250, 460)):
        orjson.dumps([*[0] * before, nested(body.MAX_DEPTH - 1, leaf, [], as_objects=False)])


def read_deep_bodies() -> None:
    """A body is refused before it is written; where its depth is asked for, nothing is written around it."""
    for levels, before in product((60, 64, 92, 94, 95, 100, 150, 199, 210, 253), range(250, 460)):
        sent = json.dumps({"log": [*[0] * before, nested(levels, 10**15, [], as_objects=False)]}, separators=(",", ":"))
        for limit, received in product((64, body.MAX_DEPTH), (sent, json.dumps({"text": sent}))):
            with suppress(body.UnreadableBody):
                orjson.dumps(body.read_body(received, limit).body)


@pytest.mark.parametrize(
    "call",
    ["write_all(False)", "write_all(True)", "write_lists_that_end_together()", "read_deep_bodies()"],
)
def test_nothing_is_written_past_the_end_of_the_buffer(call: str) -> None:
    """Python's debugging allocator checks the bytes behind each block, and aborts the process."""
    program = f"from {__name__} import *; {call}; print('written')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr[-2_000:]
