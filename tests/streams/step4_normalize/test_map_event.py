"""A partition goes on whatever a raw record does to the mapping: a dead letter replaces what would follow."""

from dataclasses import replace

import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.headers import header, headers
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step4_normalize import map_event as module
from fhirline.streams.step4_normalize.dead_letter import smaller_letters, too_large_letter
from fhirline.streams.step4_normalize.raw_event import envelope_of
from tests.support.cases import Case


@pytest.mark.parametrize(
    "error", [RecursionError("Jane Doe"), MemoryError(), ValueError("Jane Doe"), TypeError("Jane")]
)
def test_a_defect_of_reading_is_a_letter_without_a_value(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def defective(raw: ConsumerRecord) -> None:
        raise error

    monkeypatch.setattr(module, "envelope_of", defective)
    sent = headers(received_at="2024-06-01T12:00:00Z", tenant="acme")
    raw = ConsumerRecord("raw.mediquo", 0, 7, 0, b"acme|p1", b'{"a": 1}', sent)
    mapped = module.map_event(raw, Case("mediquo", "defect", ()).normalizer(), InMemoryState(), 6)
    [letter] = mapped.records
    assert mapped.error == header(letter.headers, "error-code") == "mapping-failed"
    assert letter.value is None
    assert (header(letter.headers, "raw"), letter.key) == (str(raw.position), b"acme|p1")
    path = header(letter.headers, "error-path") or ""
    assert path.startswith(type(error).__name__)
    assert "Jane" not in path


CLIENTS = (
    b'{"type": "status_update", "consultation_id": 9001, "old_status": "new", "datetime": "2024-06-01T12:10:00Z", %s}'
)


@pytest.mark.parametrize(
    ("body", "flags"),
    [
        (b"\xef\xbb\xbf" + CLIENTS % b'"x": 1', ["byte-order-mark"]),
        (CLIENTS % b'"x": NaN, "y": 123456789012345678901', ["not-a-number", "number-as-text"]),
        (CLIENTS % rb'"x": "{\"a\": 1}", "y": "\ud800"', ["json-in-text", "text-damaged"]),
        (CLIENTS % b'"x": 1, "x": 2', ["repeated-key"]),
    ],
)
@pytest.mark.parametrize("code", ["defect", "bad-header", "too-large"])
def test_a_letter_keeps_the_flags_of_how_a_foreign_body_was_read(
    body: bytes, flags: list[str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value is written anew as plain JSON, so that a redrive could not find them again."""

    def defective(*_: object) -> None:
        raise ValueError

    sent = headers(received_at="2024-06-01T12:00:00Z", tenant="NO SLUG" if code == "bad-header" else "acme")
    raw = ConsumerRecord("raw.altibbi", 0, 7, 0, b"acme|p1", body, sent)
    if code == "too-large":
        letters = [too_large_letter(raw, "fhir.r4.Encounter")]
        letters += smaller_letters(raw, letters[0])
    else:
        monkeypatch.setattr(module, "_outputs", defective)
        letters = list(module.map_event(raw, Case("altibbi", "defect", ()).normalizer(), InMemoryState(), 6).records)
    assert letters
    for letter in letters:
        assert header(letter.headers, "body-flags") == ",".join(flags)
        again = envelope_of(replace(raw, value=CLIENTS % b'"x": 1', headers=[*letter.headers, *headers(tenant="acme")]))
        assert list(again.flags) == flags


def test_a_letter_keeps_the_flags_of_a_body_that_is_no_object() -> None:
    raw = ConsumerRecord("raw.altibbi", 0, 7, 0, b"k", b'[{"a": NaN}]', [])
    [letter] = module.map_event(raw, Case("altibbi", "list", ()).normalizer(), InMemoryState(), 6).records
    assert (letter.value, header(letter.headers, "body-flags")) == (b'[{"a":null}]', "not-a-number")
