"""A real FHIR server that has loaded the definitions knows all that the golden outputs contain (HAPI FHIR JPA R4).

Errors and remarks about R4's own rules are not this test's subject.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhirline.mappers.conformance import formats
from fhirline.mappers.conformance.code_systems import TIME_ZONES, declared_code_systems
from tests.mappers.conformance.made import made
from tests.mappers.conformance.outputs import golden_resources
from tests.support.cases import BASE
from tests.support.ehr.fixture import EhrServers
from tests.support.ehr.server import EhrServer

Json = dict[str, Any]

IN_PARALLEL = 3
OPEN = "|".join(system.name for system in declared_code_systems() if system.open)
NOT_LISTED = re.compile(rf"Unknown code in fragment CodeSystem '{BASE}/CodeSystem/({OPEN})#[^']*'.*", re.S)
"""The vendor decides the codes of an open code system: the server knows the system, and cannot know each code."""
ANOTHER_VALUE_SET = re.compile(r"None of the codings provided are in the value set '.* is recommended .*", re.S)
"""R4 recommends other codes than a vendor's (preferred and example bindings)."""
NEEDS_A_PACKAGE = "Unable to resolve package id hl7.fhir.r4.core"
"""To validate any StructureDefinition of an extension, this validator reads R4's package from the internet."""


@pytest.fixture(scope="module")
def server(ehr_server: EhrServers) -> Iterator[EhrServer]:
    """A server that validated before it had any definition, so that its caches hold that it knew none."""
    running = ehr_server()
    running.clear()
    assert {issue["severity"] for issue in validated(running, ENCOUNTER)} >= {"warning"}
    answer = running.send("POST", "", json.loads(formats.as_bundle(made(), BASE)))
    assert answer.status == 200, answer
    assert {entry["response"]["status"] for entry in answer.body["entry"]} == {"201 Created"}
    yield running
    running.clear()


def validated(server: EhrServer, resource: Json) -> list[Json]:
    answer = server.send("POST", f"{resource['resourceType']}/$validate", resource)
    issues: list[Json] = answer.body["issue"]
    return issues


def about_ours(issue: Json) -> bool:
    """Tell whether an issue is about what we have to define."""
    text = issue["diagnostics"]
    if NOT_LISTED.fullmatch(text) or ANOTHER_VALUE_SET.fullmatch(text):
        return False
    return BASE in text or TIME_ZONES in text or "timezones" in text or message_id(issue).startswith("Extension_")


def message_id(issue: Json) -> str:
    codings = issue.get("details", {}).get("coding", [])
    return ",".join(coding.get("code", "") for coding in codings)


def test_it_knows_all_that_the_golden_outputs_contain(server: EhrServer) -> None:
    distinct = {json.dumps(resource, sort_keys=True): (case, resource) for case, resource in golden_resources()}

    def problems(case: str, resource: Json) -> list[str]:
        return [f"{case}: {issue['diagnostics']}" for issue in validated(server, resource) if about_ours(issue)]

    with ThreadPoolExecutor(IN_PARALLEL) as workers:
        found = [text for texts in workers.map(lambda pair: problems(*pair), distinct.values()) for text in texts]
    assert found == []
    assert len(distinct) > 1000


def test_its_own_validator_finds_no_error_in_the_definitions(server: EhrServer) -> None:
    found = [
        f"{resource['resourceType']}/{resource['id']}: {issue['diagnostics']}"
        for resource in made()
        for issue in validated(server, resource)
        if issue["severity"] in ("error", "fatal") and NEEDS_A_PACKAGE not in issue["diagnostics"]
    ]
    assert found == []


def test_it_translates_a_vendors_words(server: EhrServer) -> None:
    words = f"url={BASE}/ConceptMap/frequency&system={BASE}/CodeSystem/frequency-words&code=twice%20daily"
    answer = server.send("GET", f"ConceptMap/$translate?{words}")
    [match] = [part["part"] for part in answer.body["parameter"] if part["name"] == "match"]
    [concept] = [part["valueCoding"] for part in match if part["name"] == "concept"]
    assert (concept["system"].rpartition("/")[2], concept["code"]) == ("v3-GTSAbbreviation", "BID")


ENCOUNTER: Json = {
    "resourceType": "Encounter",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
}


def extended(name: str, **content: Any) -> Json:
    return {"extension": [{"url": f"{BASE}/StructureDefinition/{name}", **content}]}


def source_data(*parts: Json) -> Json:
    return extended("source-data", extension=list(parts))


PATH, VALUE = {"url": "path", "valueString": "/a"}, {"url": "value", "valueString": "b"}


@pytest.mark.parametrize(
    ("wrong", "remark"),
    [
        (extended("content-fingerprint", valueString="0"), "is not allowed"),
        (extended("vendor-status", valueCode="new"), r"allows for the types \[string\]"),
        (extended("value-basis", valueCode="nonsense"), "nonsense"),
        (extended("no-such-extension", valueString="a"), "Unknown extension"),
        (source_data(PATH), "minimum required = 1|minimum required = 2"),
        (source_data(PATH, VALUE, {"url": "issue", "valueCode": "no-such-flag"}), "no-such-flag"),
        (source_data(PATH, VALUE, {"url": "issue", "valueString": "content-cut"}), "valueString|type"),
        ({"type": [{"coding": [{"system": f"{BASE}/CodeSystem/mediquo-channel", "code": "fax"}]}]}, "fax"),
    ],
)
def test_it_finds_what_is_not_as_defined(server: EhrServer, wrong: Json, remark: str) -> None:
    right = ENCOUNTER | source_data(PATH, VALUE, {"url": "issue", "valueCode": "content-cut"})
    assert [issue["diagnostics"] for issue in validated(server, right) if about_ours(issue)] == []
    found = [issue["diagnostics"] for issue in validated(server, ENCOUNTER | wrong) if about_ours(issue)]
    assert any(re.search(remark, text) for text in found), found
