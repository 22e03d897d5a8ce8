"""A partition goes on whatever a raw record does to the mapping: a dead letter replaces what would follow."""

import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.headers import header, headers
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step4_normalize import map_event as module
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
