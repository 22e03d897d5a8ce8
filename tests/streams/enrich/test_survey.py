"""The parts of enrichment, without a process: retries, paths and bodies."""

from typing import Any

import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import ReadBody
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.streams.enrich.survey import NotEnriched, RetryPolicy, enriched_record, result_path, thin_survey
from tests.support.enriching import RECEIVED_AT, TENANT, survey


def test_retries_are_bounded_by_time() -> None:
    policy = RetryPolicy(first=1.0, longest=60.0, give_up_after=900.0)
    waits = [policy.wait(attempt, None, 0.0) for attempt in range(100)]
    assert all(wait is not None and 0.5 <= wait <= 60 for wait in waits)
    assert len(set(waits)) > 90, "jittered"
    asked = policy.wait(0, 30.0, 0.0)
    assert asked is not None
    assert 30 < asked <= 31
    assert policy.wait(0, 901.0, 0.0) is None
    assert policy.wait(5, None, 895.0) is None


@pytest.mark.parametrize("survey_id", [".", "..", "x" * 201])
def test_ids_that_are_not_a_path_segment_are_refused(survey_id: str) -> None:
    with pytest.raises(NotEnriched, match="no-survey-id"):
        result_path(survey_id, "summary")


def test_an_answer_that_is_too_deep_is_refused() -> None:
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    envelope = open_envelope("infermedica", TENANT, survey("s-1").value or b"", received)
    assert thin_survey(envelope) == "s-1"
    deep: dict[str, Any] = {}
    for _ in range(230):
        deep = {"deeper": deep}
    with pytest.raises(NotEnriched, match="too-deep"):
        enriched_record(envelope, "s-1", {"summary": ReadBody(deep), "evidence_assessment": ReadBody({})})
