"""The size of what is stored of one subject (mapping.md §1.1)."""

from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.limits import Limits, TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from tests.mappers.pipeline.test_bounds import made, status
from tests.support.cases import Case


def test_the_state_of_one_subject_has_a_size() -> None:
    """Each event of an appointment is stored: without a limit, a few hundred of megabytes fill a worker."""

    def booked(number: int, description: str) -> dict[str, Any]:
        kind = {"name": "Visit", "description": description}
        appointment = {"id": "a1", "status": "BOOKED", "appointmentType": kind}
        sent = f"2024-01-01T00:00:{number:02}Z"
        return {"event": "BookAppointment", "timestamp": sent, "data": {"patientId": "p1", "appointment": appointment}}

    case = Case("azodha", "bounds", (booked(0, "x"),))
    normalize, memory = case.normalizer(limits=Limits(bytes=1_000_000)), InMemoryState()
    cut = []
    for number in range(20):
        result = normalize(case.envelope(booked(number, "d" * 100_000)), memory)
        memory.apply(result.state_updates)
        cut.append("content-cut" in [flag.code for flag in result.flags])
        assert len(made(result, "Appointment")[0]["description"]) == 100_000, "as it was last stored"
    assert cut == [False] * 9 + [True] * 11
    (appointment,) = made(result, "Appointment")
    entries = memory(f"Appointment/{appointment['id']}").values()
    assert sum(len(orjson.dumps(entry.stored())) for entry in entries) < 1_000_000
    result = normalize(case.envelope(booked(30, "short")), memory)
    assert made(result, "Appointment")[0]["description"] == "short"


def test_children_that_do_not_fit_into_the_state_are_refused() -> None:
    """Older recommendations come without the children of the others, so that nothing else limits these."""

    def recommended(minute: int) -> dict[str, Any]:
        drugs = [{"fdaDrug": [{"name": f"drug {minute}", "howToUse": "h" * 100_000}]}]
        body = {"type": "recommendation_data", "consultation_id": 5, "user_id": 1, "data": {"drug": drugs}}
        return {**body, "datetime": f"2024-01-01T00:{minute:02}:00Z"}

    case = Case("altibbi", "bounds", (recommended(0),))
    normalize, memory = case.normalizer(limits=Limits(bytes=1_000_000)), InMemoryState()
    for minute in range(59, 50, -1):
        memory.apply(normalize(case.envelope(recommended(minute)), memory).state_updates)
    with pytest.raises(TooComplex, match="state bytes") as refused:
        normalize(case.envelope(recommended(50)), memory)
    assert refused.value.path == "Encounter"
    assert normalize(case.envelope(status(1)), memory).refusals == ()
