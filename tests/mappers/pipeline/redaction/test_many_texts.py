"""A body of many short texts costs no more time than one long text (mapping.md §7)."""

import gc
from typing import Any

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import MAX_DEPTH, deeper_than
from fhirline.mappers.pipeline.envelope import Envelope, open_envelope
from fhirline.mappers.pipeline.redaction import blocks, texts
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from fhirline.streams.observe import gc_tuning
from fhirline.streams.step1_receive import raw_record
from tests.support.redaction import SECRET

LIMIT = 100


def texts_read(body: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Redact a body; return how many of its texts were read for a secret."""
    read: list[str] = []
    look = blocks.without_blocks

    def counted(text: str, below: frozenset[str]) -> str:
        read.append(text)
        return look(text, below)

    with monkeypatch.context() as patch:
        patch.setattr(texts, "without_blocks", counted)
        redact(body)
    return len(read)


@pytest.mark.parametrize("text", ['{"a"}', '""', '"a":', 'He said "no"', '{"reason":"Cough"}'])
def test_a_text_with_quotes_that_names_no_secret_needs_no_reading(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts_read([f"{text} {number}" for number in range(50)], monkeypatch) == 0
    assert texts_read([f"{text} pass_code={SECRET}{number}" for number in range(50)], monkeypatch) == 50


def test_a_text_is_read_once_however_often_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts_read([f"pass_code={SECRET}"] * 500, monkeypatch) == 1


def test_many_texts_with_secrets_are_redacted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MOST_READ", LIMIT)
    secret = [f"Pass code: {SECRET}{number}" for number in range(2 * LIMIT)]
    plain = ["Cough", "see https://example.org/a?page=2", '{"dose": 2}', "50 % less"]
    encoded = [
        "%70ass_code=" + SECRET,
        "cGFzc19jb2RlPTU1Mjg=",
        "ｐａｓｓ code: " + SECRET,
        "pass:\n at: 9\n code: " + SECRET,
    ]
    redacted = redact({"chat": [*secret, *plain, *encoded]})["chat"]
    assert redacted[: LIMIT - 1] == [f"Pass code: {REDACTED}"] * (LIMIT - 1)
    assert redacted[LIMIT : 2 * LIMIT] == [REDACTED] * LIMIT
    assert redacted[2 * LIMIT : -len(encoded)] == plain
    assert SECRET not in str(redacted)
    assert redacted[-len(encoded) :] == [REDACTED] * len(encoded)
    assert redact({"chat": redacted}) == {"chat": redacted}


@pytest.mark.parametrize("list_of", [[["url", "cough"]], ["url", "cough"], ["cough", "url", "fever"]])
def test_a_word_behind_url_in_a_list_is_a_word(list_of: list[Any]) -> None:
    body = {"consultation": {"tags": list_of}}
    assert redact(body) == body


@pytest.mark.parametrize(
    "address", ["https://rooms.example.org/r", "//rooms/r", "rooms.example", "r/x", "r1", {"a": "b"}, 7]
)
def test_an_address_behind_url_in_a_list_is_redacted(address: Any) -> None:
    tags = redact({"consultation": {"tags": ["url", address]}})["consultation"]["tags"]
    assert tags[0] == "url"
    assert tags[1] in (REDACTED, {REDACTED: REDACTED})


@pytest.mark.parametrize("limit", [1, 2, 10, 63, MAX_DEPTH, 254, 255, 300])
@pytest.mark.parametrize("is_object", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_the_depth_of_a_body_is_exact(limit: int, is_object: bool, empty: bool) -> None:
    def nested(levels: int) -> Any:
        value: Any = ({} if is_object else []) if empty and levels else 1
        for _ in range(levels - 1 if empty else levels):
            value = {"a": value, "b": 1} if is_object else [1, value]
        return value

    assert [deeper_than(nested(levels), limit) for levels in (limit - 1, limit, limit + 1)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("size", "collects"), [(10, True), (gc_tuning.LARGE, False)])
def test_the_collector_waits_while_a_large_body_is_received(
    size: int, collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def opened(*given: Any) -> Envelope:
        seen.append(gc.isenabled())
        return open_envelope(*given)

    monkeypatch.setattr(raw_record, "open_envelope", opened)
    was_enabled = gc.isenabled()
    gc.enable()
    try:
        body = orjson.dumps({"user_id": 1, "chat": "x" * size})
        raw_record.raw_record("altibbi", "default", body, Instant.parse("2024-06-01T12:00:00Z"), None, MAX_DEPTH)  # type: ignore[arg-type]  # an instant
        assert (seen, gc.isenabled()) == ([collects], True)
    finally:
        if not was_enabled:
            gc.disable()
