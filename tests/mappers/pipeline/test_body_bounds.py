"""The depth and the time of reading a body are bounded (mapping.md §2.5), whatever text in text it holds."""

import json
from collections.abc import Callable
from time import process_time

import pytest

from fhirline.mappers.pipeline.body import UnreadableBody, read_body
from tests.support.cases import one_in


def text_in_text(levels: int, filling: int) -> str:
    """Encode text in text in text, where a level costs five characters for each quote, instead of twice as many."""
    inner = "x" * filling
    for _ in range(levels):
        encoded = inner.replace("\\", r"\u005c").replace('"', r"\u0022")
        inner = f'["{encoded}"]'
    return inner


def test_text_in_many_texts_is_read() -> None:
    assert text_in_text(2, 1) == r'["[\u0022x\u0022]"]'
    value = read_body(f'{{"a": {text_in_text(62, 9)}}}', 64).body["a"]
    for _ in range(61):
        [value] = value
    assert value == ["xxxxxxxxx"]


LARGE: tuple[Callable[[], str], ...] = (
    lambda: json.dumps({"a": [r"[t]"] * 200_000}),
    lambda: json.dumps({"a": ["[]"] * 300_000}),
    lambda: json.dumps({"a": "[" * 2_000_000}),
    lambda: json.dumps({"a": ["{" * 1_000] * 2_000}),
    lambda: '{"a": ' + "9" * 2_000_000 + "}",
    lambda: '{"a": [' + ", ".join(["1e-400"] * 100_000) + "]}",
    lambda: '{"a": ' + json.dumps('[" ' * 500_000) + "}",
    lambda: '{"a": "' + '\\"' * 1_000_000 + '"}',
    lambda: '{"a": ' + text_in_text(198, 1_000_000) + "}",
)
"""Bodies of megabytes, which only the test that reads one makes."""


@pytest.mark.parametrize("large", one_in(3, LARGE), ids=range(9))
def test_time_is_bounded(large: Callable[[], str]) -> None:
    body = large()
    started = process_time()
    try:
        read_body(body)
    except UnreadableBody as error:
        assert error.code == "too-deep"  # noqa: PT017  # either answer is right, if it comes in time
    assert process_time() - started < 4
