"""Altibbi (mapping.md §9): the folds do not depend on the order of arrival, and the ledger's *mapped* is true."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirline.config.errors import ConfigurationError
from fhirline.config.terminology import load_terminology
from fhirline.mappers.fhir.validation import Problem, no_validation
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, open_envelope
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer, StateUpdate
from fhirline.mappers.results import Entry, Resource
from tests.support.cases import Case, cases, shown

ALTIBBI = [case for case in cases() if case.vendor == "altibbi"]
BY_NAME = {case.name: case for case in ALTIBBI}
STATUS, RECOMMENDATION = (BY_NAME[name].events[0] for name in ("status_update", "recommendation"))
CHANGES: tuple[tuple[str, str | None], ...] = (
    ("new", "in_progress"),
    ("in_progress", "closed"),
    ("closed", "new"),
    ("", "accepted"),
    ("closed", None),
)


@cache
def mapper() -> Normalizer:
    return Case("altibbi", "", ()).normalizer(no_validation)


class Stored(InMemoryState):
    """Memory as the state topic gives it back: every value went through JSON."""

    def apply(self, updates: Iterable[StateUpdate]) -> None:
        super().apply(
            [
                update._replace(entry=Entry(update.entry.version, _through_json(update.entry.value)))
                for update in updates
            ]
        )


def _through_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def envelope(body: dict[str, Any], second: int = 0) -> Envelope:
    received = Instant.from_unix(Decimal(1_700_000_000 + second))
    assert received is not None
    return open_envelope("altibbi", "acme", orjson.dumps(body), received)


def run(envelopes: Iterable[Envelope]) -> list[Normalized]:
    memory, results = Stored(), []
    for item in envelopes:
        results.append(mapper()(item, memory))
        memory.apply(results[-1].state_updates)
    return results


def last_written(results: Iterable[Normalized]) -> dict[str, tuple[Any, Any]]:
    """The compacted topics: per key what was written last; but ``recorded``, which a retry may refresh."""
    store = {}
    for result in results:
        for output in result.outputs:
            resource = orjson.loads(output.value)
            resource.pop("recorded", None)
            store[output.key] = (orjson.dumps(resource), None if output.constant else output.version)
    return store


def status(old: str | None, new: str | None, at: str | None, **more: Any) -> dict[str, Any]:
    body = {"type": "status_update", "consultation_id": 72, "user_id": 1, "old_status": old, "new_status": new}
    return body | {"datetime": at} | more


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


def recommendation(*drugs: str, at: str | None) -> dict[str, Any]:
    """A recommendation of drugs; each also brings a child of every other type."""
    names = [{"name": name} for name in drugs]
    return {
        "type": "recommendation_data",
        "consultation_id": 72,
        "user_id": 1,
        "datetime": at,
        "data": {
            "icd10": {"symptom": names, "diagnosis": names},
            "drug": {"fdaDrug": [item | {"dosage": at} for item in names]},
            "lab": {"lab": names},
            "followUp": names,
            "postCallAnswer": [{"question": name, "answer": at} for name in drugs],
        },
    }


def resources(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def tags(resource: dict[str, Any]) -> set[str]:
    return {tag["code"] for tag in resource["meta"]["tag"]}


# -- the samples (mapping.md §15.3 to §15.5)


def test_the_samples_make_6_and_17_resources() -> None:
    made = [len(result.outputs) for result in BY_NAME["both_samples"].run()]
    assert made == [6, 17]


def test_the_two_samples_name_two_covers() -> None:
    covers = {resource["id"] for result in BY_NAME["both_samples"].run() for resource in resources(result, "Coverage")}
    assert len(covers) == 2


def test_ids_are_those_of_the_specification() -> None:
    keys = {output.key for output in BY_NAME["recommendation"].run()[0].outputs}
    assert {
        "Patient/ed51dc6d-21a2-5226-8e76-f70c1eefdde8",
        "Encounter/2b255f9d-8fb0-5341-a3c7-c91e6b6af3cf",
        "MedicationRequest/3bc9c52f-3874-5e63-a92b-f3a83f21b196",
    } <= keys


def test_the_dosage_is_literally_that_of_the_specification() -> None:
    made = {resource["id"]: resource for resource in resources(BY_NAME["recommendation"].run()[0], "MedicationRequest")}
    gts = "http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation"
    assert made["3bc9c52f-3874-5e63-a92b-f3a83f21b196"]["dosageInstruction"] == [
        {
            "text": "dosage 2; unit capsule; route oral; form tablet; Four times daily; duration 5 (unit not stated)",
            "timing": {
                "repeat": {"frequency": 4, "period": 1, "periodUnit": "d"},
                "code": {
                    "coding": [{"system": gts, "code": "QID", "display": "QID"}],
                    "text": "Four times daily",
                },
            },
            "route": {
                "coding": [{"system": "http://snomed.info/sct", "code": "26643006", "display": "Oral route"}],
                "text": "oral",
            },
            "doseAndRate": [{"doseQuantity": {"value": 2, "unit": "capsule"}}],
        }
    ]


@pytest.mark.parametrize("case", ALTIBBI, ids=lambda case: case.name)
def test_no_secret_leaves_or_is_remembered(case: Case) -> None:
    secrets = ("5528", "9EK1IhvLIwMC8rw5066cMVZXqs3", "9EK1IhvLIwMC8rw50jEaHIp3cEVRXqs3", "://example.org/")
    results = case.run()
    said = json.dumps([shown(results), [[update.entry.value for update in result.state_updates] for result in results]])
    said += "".join((result.bundle.value.decode() if result.bundle else "") for result in results)
    assert [secret for secret in secrets if secret in said] == []


# -- folds (mapping.md §3.2, §3.5, §9.1.1)


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


# -- the ledger


@pytest.mark.parametrize("case", ALTIBBI, ids=lambda case: case.name)
def test_a_mapped_leaf_shows_in_the_output(case: Case) -> None:
    """Change each leaf that the ledger calls mapped, under the same event key: something else must come out."""
    normalize, unseen = case.normalizer(no_validation), []
    for position, body in enumerate(case.events):
        before = case.envelope(body, position)
        made = normalize(before, InMemoryState())
        if not made.outputs:
            continue
        for pointer in (leaf.pointer for leaf in made.ledger if leaf.treatment == "mapped"):
            changed = replace(before, body=_changed(before.body, pointer.split("/")[1:]))
            if values(normalize(changed, InMemoryState())) == values(made):
                unseen.append((position, pointer))
    assert unseen == []


def values(result: Normalized) -> list[bytes]:
    return [output.value for output in result.outputs]


def _changed(value: Any, path: Sequence[str]) -> Any:
    """``value`` with its leaf at ``path`` changed."""
    if not path:
        return value + "x" if isinstance(value, str) else value + 1
    if isinstance(value, list):
        return [_changed(item, path[1:]) if place == int(path[0]) else item for place, item in enumerate(value)]
    return value | {path[0]: _changed(value[path[0]], path[1:])}


@pytest.mark.parametrize("case", ALTIBBI, ids=lambda case: case.name)
def test_a_kept_leaf_stands_in_an_extension(case: Case) -> None:
    for result in case.run():
        if result.outputs:
            kept = {leaf.pointer for leaf in result.ledger if leaf.treatment == "kept"}
            assert kept - set(_source_paths([output.resource for output in result.outputs])) == set()


def _source_paths(value: Any) -> Iterable[str]:
    """JSON Pointers of all source-data and source-value extensions."""
    if isinstance(value, dict):
        if value.get("url") == "path":
            yield value["valueString"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _source_paths(item)


# -- code tables


def test_words_without_a_row_name_their_table() -> None:
    flags = BY_NAME["unmapped_codes"].run()[0].flags
    counted = sorted(flag.table for flag in flags if flag.code == "unmapped-code" and flag.table)
    assert counted == ["dose-unit", "dose-unit", "follow-up", "form", "frequency", "route"]
    tables = [{flag.table for flag in result.flags if flag.table} for result in BY_NAME["status_unknown"].run()]
    assert tables == [{"altibbi-status"}, {"altibbi-status"}, set(), set()]


def test_an_operators_row_overrides_and_extends(tmp_path: Path) -> None:
    (tmp_path / "frequency.yaml").write_text(
        "version: own-1\ntitle: Frequency\nrows:\n"
        "  - {source: [thrice], means: {frequency: 3, period: 1, period_unit: d}}\n"
        "  - {source: [Weekly], means: {frequency: 1, period: 7, period_unit: d}}\n",
        "utf-8",
    )
    own = load_terminology(tmp_path)
    found = [own.row("frequency", words) for words in ("thrice", "weekly", "twice daily")]
    assert [row.means["period"] for row in found if row] == [1, 7, 1]


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("frequency", "  - source: [x]\n    means: {frequency: 0, period: 1, period_unit: d}\n", "frequency.yaml:5: "),
        ("frequency", "  - {source: [x], means: {frequency: 1, period: 1, period_unit: day}}\n", "frequency.yaml:4: "),
        ("dose-unit", "  - {source: [x]}\n", "dose-unit.yaml:4: "),
        ("follow-up", "  - {source: [x], means: {disposition: maybe}}\n", "follow-up.yaml:4: "),
        ("altibbi-status", "  - {source: [x], means: {status: done}}\n", "altibbi-status.yaml:4: "),
        ("route", "  - {source: [a]}\n  - {source: [A]}\n", "'a' is in row 1 and in row 2"),
        ("rout", "  - {source: [a]}\n", "rout.yaml: there is no such table"),
    ],
)
def test_a_slip_in_a_table_is_found_when_it_is_loaded(tmp_path: Path, name: str, rows: str, said: str) -> None:
    (tmp_path / f"{name}.yaml").write_text(f"version: own-1\ntitle: Own\nrows:\n{rows}", "utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_terminology(tmp_path)
    assert said in str(error.value)
