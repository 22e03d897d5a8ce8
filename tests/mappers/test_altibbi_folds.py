"""Altibbi's folds (mapping.md §3.2, §3.5, §9.1.1): one result for any order of arrival, with repeats."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirline.mappers.fhir.validation import Problem
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.results import Resource
from tests.support.altibbi import Stored, envelope, last_written, mapper, recommendation, resources, run, status, tags
from tests.support.cases import Case, cases

BY_NAME = {case.name: case for case in cases() if case.vendor == "altibbi"}
STATUS, RECOMMENDATION = (BY_NAME[name].events[0] for name in ("status_update", "recommendation"))
CHANGES: tuple[tuple[str, str | None], ...] = (
    ("new", "in_progress"),
    ("in_progress", "closed"),
    ("closed", "new"),
    ("", "accepted"),
    ("closed", None),
)


@pytest.mark.parametrize("word", ["accepted", "scheduled"])
def test_words_of_the_sdks_are_a_planned_encounter(word: str) -> None:
    at = "2023-06-15T09:38:50Z"
    first, then = run([envelope(status("new", word, at)), envelope(status(word, "in_progress", at), 1)])
    encounters = [
        output.resource
        for result in (first, then)
        for output in result.outputs
        if output.resource["resourceType"] == "Encounter"
    ]
    assert [encounter["status"] for encounter in encounters] == ["planned", "in-progress"]
    assert not {"unmapped-status"} & {flag.code for result in (first, then) for flag in result.flags}
    assert [row["status"] for row in encounters[1]["statusHistory"]] == ["planned", "planned"]
    assert f'"valueString":"{word}"' in orjson.dumps(encounters[1]["statusHistory"][1]).decode()


def test_statuses_make_one_encounter_in_any_order_with_retries() -> None:
    steps = ["new", "checking_medical_profile", "in_progress", "closed"]
    events = [
        envelope(status(old, new, f"2023-06-15T10:0{minute}:00Z"), minute)
        for minute, (old, new) in enumerate(itertools.pairwise(["", *steps]))
    ]
    assert len({event.event_key for event in events}) == 4
    ends = {
        resources(run((*order, *order[::2]))[-1], "Encounter")[0]["status"]: None
        for order in itertools.permutations(events)
    }
    assert list(ends) == ["finished"]
    stores = [last_written(run((*order, *order[::2]))) for order in itertools.permutations(events)]
    assert all(store == stores[0] for store in stores)


def test_a_child_that_the_latest_recommendation_left_out_says_so_in_any_order() -> None:
    events = [
        envelope(recommendation(*drugs, at=f"2023-06-15T10:0{minute}:00Z"), minute)
        for minute, drugs in enumerate(("AB", "B", "C"))
    ]
    stores = [last_written(run(order)) for order in itertools.permutations(events)]
    assert all(store == stores[0] for store in stores)
    assert {version for key, (_, version) in stores[0].items() if key.startswith("MedicationRequest/")} == {
        run(events)[-1].version
    }
    last = [orjson.loads(value) for value, _ in stores[0].values()]
    drugs = {
        item["medicationReference"]["display"]: (item["status"], "absent-from-latest-source" in tags(item))
        for item in last
        if item["resourceType"] == "MedicationRequest"
    }
    assert drugs == {"A": ("unknown", True), "B": ("unknown", True), "C": ("active", False)}
    conditions = [item for item in last if item["resourceType"] == "Condition"]
    assert sorted("absent-from-latest-source" in tags(condition) for condition in conditions) == [False, True, True]


@pytest.mark.parametrize("resource_type", ["Condition", "MedicationRequest", "Medication"])
def test_what_is_invalid_in_one_event_is_refused_in_no_later_one(resource_type: str) -> None:
    """A mistake in a table, say. Once it is corrected, the event is mapped again, after a later one."""

    def mistaken(resource: Resource) -> Sequence[Problem]:
        return [Problem("", "value", "invalid")] if resource["resourceType"] == resource_type else ()

    first, later = (envelope(recommendation(drug, at=f"2023-06-15T10:0{drug}:00Z"), int(drug)) for drug in "12")
    memory, results = Stored(), []
    for normalize, event in (
        (Case("altibbi", "", ()).normalizer(mistaken), first),
        (mapper(), later),
        (mapper(), first),
    ):
        results.append(normalize(event, memory))
        memory.apply(results[-1].state_updates)
    assert {refusal.resource_type for refusal in results[0].refusals} == {resource_type}
    stored = {update.name.partition("/")[0] for update in results[0].state_updates}
    refused = "MedicationRequest" if resource_type == "Medication" else resource_type  # it needs the Medication
    assert f"child {refused}" not in stored, "later events would build it again, and be refused"
    assert {"child Condition", "child MedicationRequest", "child Observation"} - {f"child {refused}"} <= stored
    assert [result.refusals for result in results[1:]] == [(), ()]
    assert last_written(results) == last_written(run([first, later]))


def test_the_encounter_keeps_both_status_and_diagnosis() -> None:
    store = last_written(run(map(envelope, (RECOMMENDATION, STATUS))))
    assert store == last_written(run(map(envelope, (STATUS, RECOMMENDATION))))
    (encounter,) = (orjson.loads(value) for key, (value, _) in store.items() if key.startswith("Encounter/"))
    assert encounter["status"] == "arrived"
    assert len(encounter["diagnosis"]) == 1


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Envelope], list[Envelope]]:
    """The same set of events in two orders, retries (later received) behind the first of their kind."""
    times = st.sampled_from(
        [None, "soon", "2031-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]
        + [f"2023-06-15T10:0{minute}:00{zone}" for minute in range(2) for zone in ("Z", ".000Z", "+00:00")]
    )
    body = st.one_of(
        st.builds(
            lambda change, at, cover: status(change[0], change[1], at, insurance_id=cover),
            st.sampled_from(CHANGES),
            times,
            st.sampled_from("12"),
        ),
        st.builds(lambda drugs, at: recommendation(*drugs, at=at), st.sets(st.sampled_from("ABC")).map(sorted), times),
    )
    bodies = draw(st.lists(body, min_size=1, max_size=7, unique_by=orjson.dumps))
    first = [envelope(item, second) for second, item in enumerate(bodies)]

    def order() -> list[Envelope]:
        arrived = list(draw(st.permutations(first)))
        for item in draw(st.lists(st.sampled_from(first), max_size=3)):
            place = draw(st.integers(arrived.index(item) + 1, len(arrived)))
            arrived.insert(place, replace(item, received_at=envelope({}, 90).received_at))
        return arrived

    return order(), order()


@pytest.mark.long  # tests/mappers/test_laws.py has the law for all vendors
@settings(max_examples=150, deadline=None)
@given(logs())
def test_any_order_of_arrival_ends_in_the_same_resources(orders: tuple[list[Envelope], list[Envelope]]) -> None:
    one, other = map(run, orders)
    assert last_written(one) == last_written(other)


@settings(max_examples=60, deadline=None)
@given(logs())
def test_what_a_bundle_refers_to_is_in_it_or_went_out_before(orders: tuple[list[Envelope], list[Envelope]]) -> None:
    out: set[str] = set()
    for result in run(orders[0]):
        out.update(output.key for output in result.outputs)
        assert result.bundle is not None
        assert set(_references(orjson.loads(result.bundle.value))) - out == set()


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        found = value.get("reference")
        if isinstance(found, str) and not found.startswith("#"):
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
