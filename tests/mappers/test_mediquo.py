"""MediQuo: what a golden file cannot say (mapping.md §15.1, §15.2, §15.10)."""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fhirline.mappers.fhir.validation import no_validation
from fhirline.mappers.json_pointer import unescape
from fhirline.mappers.mediquo import VENDOR
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from tests.support.cases import Case, cases, one_in

MEDIQUO = {case.name: case for case in cases() if case.vendor == "mediquo"}


def only(name: str) -> Normalized:
    (result,) = MEDIQUO[name].run()
    return result


def resources(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def test_every_published_event_type_has_a_mapping() -> None:
    mapped = {event["type"] for case in MEDIQUO.values() for event in case.events if isinstance(event.get("type"), str)}
    assert set(VENDOR.events) <= mapped, "an event type without a golden case"
    assert len(VENDOR.events) == 12


def test_consultation_sample_makes_the_resources_of_the_specification() -> None:
    result = only("consultation")
    assert Counter(output.resource["resourceType"] for output in result.outputs) == {
        "Organization": 1,
        "Device": 1,
        "Practitioner": 1,
        "Patient": 1,
        "Encounter": 1,
        "Composition": 2,
        "AllergyIntolerance": 2,
        "Condition": 2,
        "MedicationStatement": 2,
        "MedicationRequest": 3,
        "Medication": 3,
        "List": 3,
        "Provenance": 1,
    }
    assert {"duplicate-collapsed", "suspicious-id", "combination-unknown"} == {flag.code for flag in result.flags}
    first, second = resources(result, "Composition")
    assert first["extension"] == second["extension"]
    assert first["id"] != second["id"]


def test_ids_are_those_of_the_test_vectors() -> None:
    made = {output.key for output in only("consultation").outputs}
    assert {
        "Patient/78a9d77f-7aa6-59a9-a9a6-9d7b822e83bd",
        "Practitioner/c8ab06d6-a58c-583d-a1ed-d0e494ec0af3",
        "Encounter/4f39be07-b372-5b96-9409-21f846663147",
        "AllergyIntolerance/0fe96729-a81e-52bf-87d1-6cfd04bc91b1",
        "Condition/490cc3b5-bcd7-57fd-8753-f15331a3227c",
        "MedicationRequest/b2f8b4fb-c31a-5e90-be7e-d9b5b6782d51",
    } <= made


@pytest.mark.parametrize(
    ("case", "start", "end", "flags"),
    [
        ("consultation", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z", set()),
        ("consultation_madrid", "2024-01-01T00:00:00+01:00", "2024-01-01T01:00:00+01:00", set()),
        ("consultation_no_zone", "2024-01-01", "2024-01-01", {"timezone-unknown"}),
    ],
)
def test_period_follows_the_source_time_zone(case: str, start: str, end: str, flags: set[str]) -> None:
    result = only(case)
    (encounter,) = resources(result, "Encounter")
    assert (encounter["period"]["start"], encounter["period"]["end"]) == (start, end)
    assert flags == {flag.code for flag in result.flags if flag.code.startswith("timezone")}


def test_report_sample_makes_six_resources_without_an_author() -> None:
    result = only("report_sent")
    made = [output.resource["resourceType"] for output in result.outputs]
    assert sorted(made) == ["Communication", "Composition", "Device", "Organization", "Patient", "Provenance"]
    (composition,) = resources(result, "Composition")
    (author,) = composition["author"]
    assert "reference" not in author
    assert author["extension"][0]["valueCode"] == "unknown"
    assert composition["extension"] == resources(only("consultation"), "Composition")[0]["extension"]


@pytest.mark.parametrize(
    ("substances", "names", "unreadable"),
    [
        ([{"name": "amoxicilina"}], ["amoxicilina"], 0),
        ({"name": "amoxicilina"}, ["amoxicilina"], 0),
        (["amoxicilina", {"id": 2, "name": "Ibuprofeno"}], ["Ibuprofeno", "amoxicilina"], 0),
        ([{"label": "amoxicilina"}], ["Prescription whose substances could not be read"], 1),
        ([["amoxicilina"]], ["Prescription whose substances could not be read"], 1),
        ([{"name": ["amoxicilina"]}, "ibuprofeno", "enalapril"], ["enalapril", "ibuprofeno"], 2),
        ([], ["Prescription without listed substances"], 0),
        ([None, "", {}], ["Prescription without listed substances"], 0),
    ],
)
def test_substances_are_names_or_objects_with_a_name(substances: Any, names: list[str], unreadable: int) -> None:
    """``unreadable`` is the number of requests with that flag."""
    payload = {
        "consultation": {"id": "synthetic-1"},
        "patient": {"code": "synthetic-1"},
        "prescriptions": [{"id": "p", "active_substances": substances}],
    }
    (result,) = Case("mediquo", "-", ({"type": "patient_consultation_finished", "payload": payload},)).run()
    made = resources(result, "MedicationRequest")
    drugs = {f"Medication/{resource['id']}": resource["code"]["text"] for resource in resources(result, "Medication")}
    assert sorted(_drug(item, drugs) for item in made) == names
    tagged = [item for item in made if "value-unreadable" in {tag["code"] for tag in item["meta"]["tag"]}]
    assert len(tagged) == unreadable


def _drug(request: dict[str, Any], drugs: dict[str, str]) -> str:
    if concept := request.get("medicationCodeableConcept"):
        return str(concept["text"])
    referred = request["medicationReference"]
    assert drugs[referred["reference"]] == referred["display"]
    return str(referred["display"])


def test_the_record_is_the_same_in_all_events() -> None:
    case = MEDIQUO["newer_record_in_all_events"]
    types = ("AllergyIntolerance", "Condition", "MedicationStatement", "MedicationRequest", "Composition")
    timed = ("meta", "text", "encounter", "authoredOn", "date")
    records = []
    for event in case.events:
        (result,) = replace(case, events=(event,)).run()
        made = [resource for resource_type in types for resource in resources(result, resource_type)]
        records.append({item["id"]: {k: v for k, v in item.items() if k not in timed} for item in made})
        assert all(item["encounter"] for item in made if item["resourceType"] in types[3:])
    created, rescheduled, finished, cancelled, no_show = records
    assert len(created) == 6
    assert created == rescheduled == finished == cancelled
    assert no_show.items() < created.items()
    assert {item["resourceType"] for item in no_show.values()} == set(types[:3])


@pytest.mark.parametrize("case", MEDIQUO.values(), ids=MEDIQUO.keys())
def test_room_addresses_are_nowhere(case: Case) -> None:
    """Neither in what leaves nor in what is remembered, also where everything else was refused."""
    for result in case.run():
        written = b"".join(output.value for output in result.outputs) + (
            result.outcome.value if result.outcome else b""
        )
        assert b"TOP-SECRET" not in written
        assert "TOP-SECRET" not in repr((result.state_updates, result.refusals, result.ledger))


@pytest.mark.parametrize("case", one_in(3, MEDIQUO.values()), ids=MEDIQUO.keys())
def test_what_the_ledger_calls_mapped_is_in_the_output(case: Case) -> None:
    """Another value at a mapped leaf makes another output, with all else (also the event key) the same."""
    normalize = case.normalizer(no_validation)

    def outputs(envelope: Envelope) -> list[bytes]:
        return [output.value for output in normalize(envelope, InMemoryState()).outputs]

    unseen = []
    for envelope in case.envelopes():
        made = outputs(envelope)
        for leaf in normalize(envelope, InMemoryState()).ledger:
            if leaf.treatment == "mapped" and outputs(_changed(envelope, leaf.pointer)) == made:
                unseen.append(leaf.pointer)
    assert unseen == []


@pytest.mark.parametrize("case", MEDIQUO.values(), ids=MEDIQUO.keys())
def test_what_the_ledger_calls_kept_is_in_the_output(case: Case) -> None:
    """As above, for what the mapping or the Provenance keeps as source data, wherever anything went out at all."""
    normalize = case.normalizer(no_validation)
    lost = []
    for envelope in case.envelopes():
        result = normalize(envelope, InMemoryState())
        paths = set(_source_paths([output.resource for output in result.outputs]))
        kept = {leaf.pointer for leaf in result.ledger if leaf.treatment == "kept"} if result.outputs else set()
        lost += sorted(kept - paths)
    assert lost == []


def _changed(envelope: Envelope, pointer: str) -> Envelope:
    body: Any = copy.deepcopy(envelope.body)
    place, *parts = body, *map(unescape, pointer.split("/")[1:])
    for part in parts[:-1]:
        place = place[int(part)] if isinstance(place, list) else place[part]
    last = int(parts[-1]) if isinstance(place, list) else parts[-1]
    value = place[last]
    place[last] = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
    return replace(envelope, body=body)


def _source_paths(value: Any) -> Iterator[str]:
    """Every ``path`` of a source-data or source-value extension below ``value``."""
    if isinstance(value, list):
        for item in value:
            yield from _source_paths(item)
    elif isinstance(value, dict):
        if value.get("url") == "path":
            yield value["valueString"]
        for item in value.values():
            yield from _source_paths(item)
