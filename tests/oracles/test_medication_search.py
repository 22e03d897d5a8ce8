"""A FHIR server finds every prescription of the golden cases by its drug (mapping.md §4.6)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from tests.support.cases import cases
from tests.support.ehr.fixture import EhrServers
from tests.support.ehr.server import EhrServer

pytestmark = pytest.mark.long

Resource = dict[str, Any]
BEGINNING = 5
"""Characters of a drug's name to search for: a server compares the beginning."""


@pytest.fixture(scope="module")
def sent(ehr_server: EhrServers) -> tuple[EhrServer, dict[str, Resource]]:
    """A server with all golden Bundles that hold prescriptions, and what was sent: ``Type/id`` → the last resource.

    All of one tenant with one configuration, on which ``meta`` and narrative depend.
    """
    server, latest = ehr_server(), dict[str, Resource]()
    server.clear()
    for case in cases():
        for result in replace(case, settings=None).run():
            bundle = orjson.loads(result.bundle.value) if result.bundle else {}
            entries = {entry["request"]["url"]: entry["resource"] for entry in bundle.get("entry", ())}
            if any(key.startswith("MedicationRequest/") for key in entries):
                answer = server.send("POST", "", bundle)
                assert answer.status == 200, f"{case.vendor}/{case.name}"
                latest |= entries
    return server, latest


def found(server: EhrServer, **query: str) -> Iterator[str]:
    """Yield the ids of all MedicationRequests that the server finds, page by page."""
    path = f"MedicationRequest?{urlencode({**query, '_count': '200'})}"
    while path:
        answer = server.send("GET", path)
        assert answer.status == 200, answer.body
        yield from (entry["resource"]["id"] for entry in answer.body.get("entry", ()))
        links = {link["relation"]: link["url"] for link in answer.body["link"]}
        path = links.get("next", "").removeprefix(f"{server.base}/").removeprefix(server.base)


def vendor(resource: Resource) -> str:
    return str(resource["meta"]["source"].split("/source/")[1].split("/")[0])


def code(drug: Resource) -> str:
    return str(drug["code"]["text"])


def substance(drug: Resource) -> str:
    return "".join(str(ingredient["itemCodeableConcept"]["text"]) for ingredient in drug.get("ingredient", ()))


@pytest.mark.parametrize(("parameter", "text_of"), [("code", code), ("ingredient-code", substance)])
def test_every_prescription_is_found_by_the_beginning_of_its_drugs_name(
    sent: tuple[EhrServer, dict[str, Resource]], parameter: str, text_of: Callable[[Resource], str]
) -> None:
    server, latest = sent
    requests = [item for item in latest.values() if item["resourceType"] == "MedicationRequest"]
    referring = [request for request in requests if "medicationReference" in request]
    texts = {item["id"]: text_of(latest[item["medicationReference"]["reference"]]) for item in referring}
    named = {id: text for id, text in texts.items() if text}
    assert {vendor(item) for item in referring if item["id"] in named} == {"altibbi", "mediquo"}
    for beginning in {text[:BEGINNING] for text in named.values()}:
        wanted = {id for id, text in named.items() if text.casefold().startswith(beginning.casefold())}
        assert wanted <= {*found(server, **{f"medication.{parameter}:text": beginning})}, beginning
    assert parameter != "code" or named == texts


def test_a_prescription_whose_drug_stays_with_the_patient_is_found_by_its_own_text(
    sent: tuple[EhrServer, dict[str, Resource]],
) -> None:
    server, latest = sent
    texts = {
        item["id"]: concept["text"]
        for item in latest.values()
        if item["resourceType"] == "MedicationRequest" and (concept := item.get("medicationCodeableConcept"))
    }
    assert len(texts) >= 5
    for id, text in texts.items():
        assert id in {*found(server, **{"code:text": text[:BEGINNING]})}, text


def test_equal_drugs_are_one_resource_of_one_version(sent: tuple[EhrServer, dict[str, Resource]]) -> None:
    """Whatever number of Bundles held it: the server has never seen another content under the id."""
    server, latest = sent
    drugs = [key for key, item in latest.items() if item["resourceType"] == "Medication"]
    assert drugs
    assert {server.send("GET", key).body["meta"]["versionId"] for key in drugs} == {"1"}
