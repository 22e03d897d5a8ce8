"""A FHIR server that validates what it is sent takes every Bundle of the golden cases, in order (mapping.md §15.9)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from fhirline.mappers.conformance.code_systems import time_zones
from fhirline.mappers.times import TZ_CODE
from tests.support.cases import Case, cases
from tests.support.ehr.fixture import EhrServers
from tests.support.ehr.server import Answer, EhrServer

STRICT = {"unknown_status": "refuse", "tz_code": False}
"""Settings of a tenant whose server validates (docs/settings.md)."""

VALIDATING = {"validate": True}


@pytest.fixture
def server(ehr_server: EhrServers) -> EhrServer:
    server = ehr_server(**VALIDATING)
    server.clear()
    return server


def refused(server: EhrServer, sent: list[Case]) -> Iterator[tuple[str, Answer]]:
    """Post each Bundle of the cases; yield those that the server refuses, by the name of their case and event."""
    for case in sent:
        for number, result in enumerate(case.run()):
            if result.bundle:
                answer = server.send("POST", "", orjson.loads(result.bundle.value))
                if answer.status != 200:
                    yield f"{case.vendor}/{case.name} event {number}", answer


def errors(answer: Answer) -> list[tuple[str, str]]:
    """Return place and text of what the server calls an error. Golden cases are synthetic: the text may be shown."""
    return [
        (" ".join(issue.get("expression", issue.get("location", ()))), issue.get("diagnostics", ""))
        for issue in answer.body.get("issue", ())
        if issue["severity"] in ("error", "fatal")
    ]


def strict(case: Case) -> Case:
    return replace(case, settings={**(case.settings or {}), **STRICT})


def test_with_the_settings_for_strict_servers_none_is_refused(server: EhrServer) -> None:
    found = {name: errors(answer) for name, answer in refused(server, [strict(case) for case in cases()])}
    assert found == {}


def test_with_the_default_settings_only_required_statuses_without_a_code_are_refused(server: EhrServer) -> None:
    """R4 has no code "unknown" for them; mapping.md §5.2 tells why they are sent all the same."""
    sent = [replace(case, settings={**(case.settings or {}), "tz_code": False}) for case in cases()]
    found = {name: errors(answer) for name, answer in refused(server, sent)}
    others = {name: errors for name, errors in found.items() if not all(map(_is_valueless_status, errors))}
    assert others == {}
    assert found, "the case of a status without a code is gone"


def _is_valueless_status(error: tuple[str, str]) -> bool:
    place, text = error
    return place.endswith(".status") and text.startswith("No code provided")


def test_it_takes_tz_code_once_it_has_the_time_zones_of_the_definitions(server: EhrServer) -> None:
    """The setting ``tz_code``; `fhirline conformance` writes the CodeSystem (docs/conformance.md)."""
    zones = time_zones()
    assert server.send("PUT", f"CodeSystem/{zones['id']}", zones).status == 201
    sent = [case for case in cases() if (case.settings or {}).get("tz_code")]
    assert sent
    assert {name: errors(answer) for name, answer in refused(server, sent)} == {}
    no_zone = {"extension": [{"url": TZ_CODE, "valueCode": "Mars/Olympus"}]}
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": "e",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "period": {"start": "2024-05-03T10:00:00Z", "_start": no_zone},
    }
    assert any("Mars/Olympus" in text for _, text in errors(server.send("PUT", "Encounter/e", encounter)))


def test_it_refuses_what_a_mapping_must_not_make(server: EhrServer) -> None:
    """The server bites: R4's app-4 as published, and a valueless code."""
    appointment: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": "a",
        "status": "noshow",
        "cancelationReason": {"text": "rain"},
        "start": "2024-05-03T10:00:00Z",
        "end": "2024-05-03T11:00:00Z",
        "participant": [{"actor": {"display": "Somebody"}, "status": "accepted"}],
    }
    assert [text for _, text in errors(server.send("PUT", "Appointment/a", appointment)) if "app-4" in text]
    del appointment["cancelationReason"]
    assert server.send("PUT", "Appointment/a", appointment).status == 201
