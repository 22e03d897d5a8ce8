"""Medication: one resource for equal drugs, which no event changes and no patient is in (mapping.md §4.6)."""

import hashlib
from collections import defaultdict
from typing import Any

import orjson
import pytest

from fhirline.mappers.identity import Naming
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.pipeline.limits import Limits, TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from tests.support.cases import BASE, Case, cases

CASES = cases()
Resource = dict[str, Any]
WITHOUT = ("resourceType", "id", "meta", "text")
"""Members that are no content of a Medication."""

DRUG = {"name": "PIMOZIDE", "tradeName": "ORAP FORTE TAB 4 MG", "dosageForm": "tablet", "strengthValue": "4"}


def recommendation(user: int, consultation: int, *drugs: Resource, at: str = "2024-05-01T10:00:00Z") -> Resource:
    return {
        "type": "recommendation_data",
        "user_id": user,
        "consultation_id": consultation,
        "datetime": at,
        "data": {"drug": {"fdaDrug": list(drugs)}},
    }


def made_by(*events: Resource, vendor: str = "altibbi") -> list[dict[str, bytes]]:
    """Return each event's resources as its Bundle holds them: ``Type/id`` → value."""
    bundles = [orjson.loads(result.bundle.value) for result in Case(vendor, "-", events).run() if result.bundle]
    return [
        {entry["request"]["url"]: orjson.dumps(entry["resource"]) for entry in bundle["entry"]} for bundle in bundles
    ]


def of_type(made: dict[str, bytes], resource_type: str) -> list[Resource]:
    return [orjson.loads(value) for key, value in made.items() if key.startswith(f"{resource_type}/")]


def keys_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return {key for item in value for key in keys_in(item)}
    return {key for name, item in value.items() for key in {name, *keys_in(item)}} if isinstance(value, dict) else set()


def test_every_medication_is_named_by_its_content_which_has_nothing_of_an_event() -> None:
    """Over all golden cases: what differs in content differs in id, and equal ids have equal bytes."""
    values: dict[tuple[str, str, bool], set[bytes]] = defaultdict(set)
    for case in CASES:
        for result in case.run():
            for output in result.outputs:
                if output.resource["resourceType"] != "Medication":
                    continue
                resource = orjson.loads(output.value)
                content = {name: value for name, value in resource.items() if name not in WITHOUT}
                digest = hashlib.sha256(canonical(content)).hexdigest()
                assert resource["id"] == Naming(BASE).id(case.vendor, "acme", "Medication", "content", digest)
                assert content["code"]["text"]
                assert not keys_in(resource) & {"extension", "reference"}
                assert resource["meta"]["source"] == f"{BASE}/source/{case.vendor}/acme"
                assert output.constant
                assert output.partition_by == output.key
                values[case.vendor, output.key, bool(case.settings)].add(output.value)
    assert {vendor for vendor, _, _ in values} >= {"altibbi", "mediquo"}
    assert [key for (_, key, settings), found in values.items() if not settings and len(found) > 1] == []


def test_patients_with_one_drug_share_its_medication() -> None:
    """Whatever the dose and the strength that go with it: those are each request's own."""
    first, second = made_by(
        recommendation(1, 72, {**DRUG, "dosage": "1"}),
        recommendation(2, 90, {**DRUG, "dosage": "2", "strengthValue": "2", "specialInstructions": "In the evening."}),
    )
    [one], [other] = of_type(first, "MedicationRequest"), of_type(second, "MedicationRequest")
    assert one["id"] != other["id"]
    assert one["medicationReference"] == other["medicationReference"]
    key = one["medicationReference"]["reference"]
    assert first[key] == second[key]


def test_other_words_are_another_medication() -> None:
    changes: list[Resource] = [{}, {"name": "Pimozide"}, {"dosageForm": "capsule"}, {"registrationNumber": "J1"}]
    keys = {key for made in made_by(*(recommendation(1, 72, DRUG | change) for change in changes)) for key in made}
    assert len([key for key in keys if key.startswith("Medication/")]) == len(changes)


def test_a_drug_twice_in_an_event_is_one_entry_of_its_bundle() -> None:
    [made] = made_by(recommendation(1, 72, {**DRUG, "dosage": "1"}, {**DRUG, "dosage": "2"}))
    assert len(of_type(made, "MedicationRequest")) == 2
    assert len(of_type(made, "Medication")) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_bundle_has_the_drugs_of_earlier_recommendations(order: tuple[int, int]) -> None:
    """A prescription that the latest recommendation leaves out is written again, and its drug goes with it."""
    events = [
        recommendation(1, 72, DRUG, {"name": "IBUPROFEN"}, at="2024-05-01T10:00:00Z"),
        recommendation(1, 72, {"name": "IBUPROFEN", "dosageForm": "tablet"}, at="2024-05-01T11:00:00Z"),
    ]
    for made in made_by(*(events[position] for position in order)):
        for request in of_type(made, "MedicationRequest"):
            assert request["medicationReference"]["reference"] in made
    latest = made_by(*(events[position] for position in order))[order.index(1)]
    absent = [item for item in of_type(latest, "MedicationRequest") if item["status"] == "unknown"]
    assert len(absent) == (1 if order == (0, 1) else 0)


def test_words_that_do_not_read_like_a_drug_stay_in_the_request() -> None:
    note = "for her son Invented, call 079 555 01 23"
    [made] = made_by(recommendation(1, 72, {**DRUG, "tradeName": note, "registrationNumber": "J 1"}))
    [request] = of_type(made, "MedicationRequest")
    assert request["medicationCodeableConcept"] == {"text": f"PIMOZIDE ({note})"}
    assert not of_type(made, "Medication")
    sent = {part["valueString"] for extension in request["extension"] for part in extension["extension"]}
    assert {"J 1", "4"} <= sent


def test_an_event_without_a_patient_makes_and_refuses_no_medication() -> None:
    event = {
        "type": "patient_consultation_finished",
        "payload": {"consultation": {"id": "c"}, "prescriptions": [{"id": "p", "active_substances": ["ibuprofeno"]}]},
    }
    [result] = Case("mediquo", "-", (event,)).run()
    assert "MedicationRequest" in {refusal.resource_type for refusal in result.refusals}
    assert "Medication" not in {refusal.resource_type for refusal in result.refusals}
    assert not any(output.key.startswith("Medication/") for output in result.outputs)


def test_medications_do_not_use_up_the_resources_of_an_event() -> None:
    """The limit is about prescriptions, each of which may have a drug of its own."""
    case = Case("altibbi", "-", (recommendation(1, 72, *({"name": f"DRUG {n}"} for n in range(30))),))
    [envelope] = case.envelopes()
    least = 30 + len(("Patient", "Encounter", "Composition"))
    result = case.normalizer(limits=Limits(resources=least))(envelope, InMemoryState())
    assert sum(output.key.startswith("Medication/") for output in result.outputs) == 30
    with pytest.raises(TooComplex):
        case.normalizer(limits=Limits(resources=least - 1))(envelope, InMemoryState())
