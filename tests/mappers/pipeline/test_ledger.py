"""The ledger in the stream's short form, and what of it counts as drift."""

import random
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from tests.support.cases import Case, cases
from tests.support.mutations import mutated

CASES = {f"{case.vendor}/{case.name}": case for case in cases()}
IDS = sorted(CASES)

DELIBERATE = {
    # paths that the vendors document, and that FHIR has no home for
    "infermedica/enriched-in-content": {"/content/evidence_assessment/conditions/*/common_name"},
    "infermedica/enriched-published": {
        "/evidence_assessment/conditions/*/common_name",
        "/evidence_assessment/triage/serious/*/common_name",
    },
    "infermedica/enriched-self-care": {"/evidence_assessment/conditions/*/common_name"},
    "infermedica/narratives": {
        "/evidence_assessment/conditions/*/common_name",
        "/evidence_assessment/triage/serious/*/common_name",
    },
    "infermedica/thin-then-enriched": {"/evidence_assessment/conditions/*/common_name"},
    # a consultation's type says nothing before the consultation, and a block's speciality nothing of the block
    "mediquo/missing_patient": {"/payload/consultation/type"},
    "mediquo/newer_appointment_times": {"/payload/consultation/type"},
    "mediquo/newer_cancelled_chat": {"/payload/consultation/type"},
    "mediquo/newer_lifecycle": {"/payload/consultation/type"},
    "mediquo/newer_record_in_all_events": {"/payload/consultation/type"},
    "mediquo/newer_record_without_ids": {"/payload/consultation/type"},
    "mediquo/newer_blocks": {"/payload/professional/speciality"},
    "mediquo/newer_blocks_refused": {"/payload/professional/speciality"},
}
ODD = {
    # shapes that no vendor documents: they drift, whatever the paths are
    "altibbi/bare_values",
    "altibbi/json_in_text",
    "altibbi/recommendation_of_nothing",
    "altibbi/status_unknown",
    "altibbi/wrong_types",
    "infermedica/enriched-assessment-odd",
    "infermedica/enriched-no-patient-id",
    "infermedica/enriched-wrong-types",
    "infermedica/no-survey-id",
    "mediquo/bare_values",
    "mediquo/event_times",
    "mediquo/newer_created",
    "mediquo/newer_messages",
    "mediquo/substances",
    "mediquo/unreadable_history",
    "mediquo/wrong_types",
}


@pytest.mark.parametrize("name", [name for name in IDS if not name.startswith("azodha/")])
def test_documented_shapes_do_not_drift(name: str) -> None:
    """Azodha documents no shape at all."""
    drifted = {path for result in CASES[name].run() for path in result.schema_drift}
    if name in ODD:
        assert drifted
    else:
        assert drifted == DELIBERATE.get(name, set()), "a rule is missing; or else the case is DELIBERATE, or ODD"


def drift_of(name: str, change: Callable[[dict[str, Any]], None]) -> tuple[str, ...]:
    """Drift of a case's first event after the change, without what it has before."""
    case = CASES[name]
    before, after = deepcopy(case.events[0]), deepcopy(case.events[0])
    change(after)
    known = case.normalizer()(case.envelope(before), InMemoryState()).schema_drift
    found = case.normalizer()(case.envelope(after), InMemoryState()).schema_drift
    return tuple(path for path in found if path not in known)


STATUS = "altibbi/status_update"
SOMEBODY = {"age": 41, "notes": ["allergic", {"jane": 1}]}
PEOPLE = ("Jane", "Zoë", "jane.doe@example.org", "Jane Doe", "+34600000000", "p4711", "doe-jane", "4711", "J" * 41, "")


@pytest.mark.parametrize("key", ["extra", "visitNotes", "visit_notes", "k" * 40])
def test_a_new_field_is_named_and_nothing_below_it(key: str) -> None:
    assert drift_of(STATUS, lambda body: body.update({key: SOMEBODY})) == (f"/{key}",)
    assert drift_of(STATUS, lambda body: body.update({key: {"jane": SOMEBODY, "peter": SOMEBODY}})) == (f"/{key}",)
    assert drift_of("mediquo/consultation", lambda body: body["payload"]["patient"].update({key: "x"})) == (
        f"/payload/patient/{key}",
    )


@pytest.mark.parametrize("key", PEOPLE)
def test_a_key_that_does_not_read_like_a_field_is_hidden(key: str) -> None:
    assert drift_of(STATUS, lambda body: body.update({key: SOMEBODY})) == ("/*",)


def test_keys_of_a_map_are_hidden_however_they_read() -> None:
    """Too many for a release, in place of an object or a list that has fields, or of a single value."""
    family = dict.fromkeys("ana bea carl dora emil fay gus hana ivan".split(), SOMEBODY)
    few = {"ana": SOMEBODY}
    assert drift_of(STATUS, lambda body: body.update(family)) == ("/*",)
    assert drift_of(STATUS, lambda body: body.update(insurance_id=few)) == ("/insurance_id",)
    finished = "mediquo/consultation"
    for place, people in product(("professional", "prescriptions"), (few, family)):
        told = drift_of(finished, lambda body, sent={place: people}: body["payload"].update(sent))  # type: ignore[misc]
        assert told == (f"/payload/{place}/*",)


def test_drift_is_what_no_rule_names_and_what_is_not_what_it_should_be() -> None:
    def change(body: dict[str, Any]) -> None:
        body |= {
            "extra": {"note": "x", "signed": "https://x", "empty": None},
            "nothing": {"new": None, "blank": " "},
            "insurance_id": ["1"],
            "accessToken": "x",
            "secret": "redacted before it is stored",
        }

    assert drift_of(STATUS, change) == ("/accessToken", "/extra", "/insurance_id/*")


def test_what_a_mapping_reads_whole_has_keys_that_may_be_data() -> None:
    """An assessment's answers by question, whoever is asked: what is withheld of them names no key."""

    def change(body: dict[str, Any]) -> None:
        answers = body["data"]["assessment"]["assessmentResponseObject"]
        answers |= {"jane": {"password": "x"}, "peter": {"id": "q9", "answer": "yes", "other": {"maria": "x"}}}

    assert drift_of("azodha/survey-assessment", change) == ("/data/assessment/assessmentResponseObject",)


def test_an_unknown_event_is_no_drift() -> None:
    """It is counted as what it is: an event that is not supported."""
    case = CASES["altibbi/status_update"]
    result = case.normalizer()(case.envelope({"type": "news", "x": 1}), InMemoryState())
    assert result.schema_drift == ()
    assert [(leaf.pointer, leaf.treatment) for leaf in result.ledger] == [("", "kept")]


def assert_notable_leaves_are_all_but_the_mapped(result: Normalized) -> None:
    every = list(result.ledger)
    assert len(every) == len(result.ledger)
    assert list(result.ledger.notable) == [leaf for leaf in every if leaf.treatment != "mapped"]


@pytest.mark.parametrize("name", IDS)
def test_the_short_form_misses_nothing(name: str) -> None:
    for result in CASES[name].run():
        assert_notable_leaves_are_all_but_the_mapped(result)


def _without_validation(case: Case, body: dict[str, object]) -> Normalized:
    return case.normalizer(lambda resource: [])(case.envelope(body), InMemoryState())


@given(st.sampled_from(IDS), st.integers(0, 50), st.integers(0, 2**32))
def test_the_short_form_misses_nothing_of_mutated_events(name: str, event: int, seed: int) -> None:
    case = CASES[name]
    body = mutated(case.events[event % len(case.events)], random.Random(seed))
    result = _without_validation(case, body)
    assert_notable_leaves_are_all_but_the_mapped(result)
    if any(leaf.pointer for leaf in result.ledger):
        assert [leaf.pointer for leaf in result.ledger] == [
            pointer for pointer, _ in leaves_of(case.envelope(body).body)
        ]


UNMAPPED = {
    "altibbi/unmapped_codes": ("dose-unit", "dose-unit", "follow-up", "form", "frequency", "route"),
    "azodha/activity-log-in-data": ("azodha-task-status",),
    "azodha/gender-words": ("azodha-gender", "azodha-gender"),
    "azodha/survey-assessment-no-subtype": ("azodha-assessment-status",),
    # Appointment and Encounter are both made of the one speciality: a word counts once.
    "mediquo/newer_finished": ("mediquo-speciality",),
}


@pytest.mark.parametrize("name", UNMAPPED)
def test_words_without_a_row_are_told_by_their_table(name: str) -> None:
    assert tuple(table for result in CASES[name].run() for table in result.unmapped) == UNMAPPED[name]


def test_a_word_counts_with_the_event_that_said_it() -> None:
    """Not again with every later event that folds it into the same resource."""
    case = CASES["azodha/fold-booked-waiting-rescheduled-cancelled"]
    sent = [str(body).count("'status'") for body in case.events]
    told = [len(result.unmapped) for result in case.run()]
    assert all(item <= most for item, most in zip(told, sent, strict=True))
    assert sum(told) == 2
