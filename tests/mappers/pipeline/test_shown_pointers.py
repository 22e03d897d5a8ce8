"""Keys that may be data are in no outcome, flag or refusal (mapping.md §6)."""

from typing import Any

import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState
from tests.support.cases import Case, cases

PERSON = "jane.doe@example.org"

CASES = cases()
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.vendor}/{case.name}")


def with_keys(value: Any) -> Any:
    """Every object with one more key, which is a person's address, and a map of such keys."""
    if isinstance(value, dict):
        return {**{key: with_keys(item) for key, item in value.items()}, PERSON: "x", "who": {PERSON: {PERSON: 1}}}
    return [with_keys(item) for item in value] if isinstance(value, list) else value


@every_case
def test_no_key_that_may_be_data_is_shown(case: Case) -> None:
    normalize, memory = case.normalizer(), InMemoryState()
    for body in case.events:
        result = normalize(case.envelope(with_keys(body)), memory)
        memory.apply(result.state_updates)
        assert result.outcome is not None
        assert PERSON.encode() not in result.outcome.value
        assert PERSON not in repr(result.flags)
        assert PERSON not in repr(result.refusals)
        assert PERSON not in repr(result.schema_drift)


def test_places_that_only_the_mapping_names_and_positions_are_shown() -> None:
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1717243500,
        "payload": {"consultation": {"id": "c"}, "reports": [{"id": "r", "new_field": 1}]},
    }
    case = Case("mediquo", "shown", (body,))
    result = case.normalizer()(case.envelope(body), InMemoryState())
    assert "/payload/patient/code" in {place for flag in result.flags for place in flag.at}
    assert result.outcome is not None
    shown = {place for issue in result.outcome.resource["issue"] for place in issue.get("expression", ())}
    assert "/payload/reports/0/new_field" in shown
