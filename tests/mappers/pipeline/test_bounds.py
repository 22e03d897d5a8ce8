"""The limits of one event (mapping.md §1.1): what is cut, in which order, and what is said about it."""

import hashlib
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fhirline.mappers.fhir import elements
from fhirline.mappers.identity import decimal_text
from fhirline.mappers.json_pointer import leaves_of, value_at
from fhirline.mappers.pipeline import normalize
from fhirline.mappers.pipeline.bounds import bounded
from fhirline.mappers.pipeline.limits import MAX_SHOWN, MAX_STRING, Limits, TooComplex, common_pointer, short
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from tests.support.cases import Case

PRESCRIPTION = {"id": "r1", "active_substances": ["Ibuprofen"]}


def mediquo(**payload: Any) -> dict[str, Any]:
    return {
        "type": "patient_consultation_finished",
        "occurred_on": 1700000000,
        "payload": {
            "consultation": {"id": "c1"},
            "patient": {"code": "p1"},
            "prescriptions": [PRESCRIPTION],
            **payload,
        },
    }


def status(number: int) -> dict[str, Any]:
    """The number-th status update of one Altibbi consultation."""
    minute = f"2023-06-15T{9 + number // 60:02d}:{number % 60:02d}:00Z"
    return {
        "type": "status_update",
        "consultation_id": 5,
        "user_id": 1,
        "old_status": "new" if number % 2 else "in_progress",
        "new_status": "in_progress" if number % 2 else "new",
        "datetime": minute,
    }


def normalized(vendor: str, body: dict[str, Any], limits: Limits | None = None) -> Normalized:
    case = Case(vendor, "bounds", (body,))
    return case.normalizer(limits=limits)(case.envelope(body), InMemoryState())


def made(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    found = [orjson.loads(output.value) for output in result.outputs]
    return [resource for resource in found if resource["resourceType"] == resource_type]


def entries(result: Normalized) -> dict[str, dict[str, Any]]:
    """Path → content of the entries of cut values on the Provenance."""
    found = {}
    for extension in made(result, "Provenance")[0].get("extension", []):
        parts = {part["url"]: part.get("valueString", part.get("valueCode")) for part in extension["extension"]}
        if parts.get("issue") == "content-cut":
            found[parts["path"]] = orjson.loads(parts["value"])
    return found


def issue(result: Normalized, flag: str) -> dict[str, Any]:
    assert result.outcome is not None
    issues = orjson.loads(result.outcome.value)["issue"]
    return next(item for item in issues if item["details"]["coding"][0]["code"] == flag)


def test_a_subtree_beyond_the_limit_is_one_entry_that_can_be_checked() -> None:
    chat = [{"from": "patient", "text": f"message {number}"} for number in range(5_000)]
    result = normalized("mediquo", mediquo(chat=chat))
    written = orjson.dumps(chat, option=orjson.OPT_SORT_KEYS)
    expected = {"values": 10_000, "bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert entries(result) == {"/payload/chat": expected}
    told = issue(result, "content-cut")
    assert told["expression"] == ["/payload/chat"]
    assert told["diagnostics"] == f"/payload/chat: 10000 values, {len(written)} bytes, SHA-256 {expected['sha256']}"
    assert len(made(result, "MedicationRequest")) == 1
    assert "/payload/*" in result.schema_drift or "/payload/chat" in result.schema_drift


def test_small_values_beside_a_large_one_are_kept_as_they_are() -> None:
    result = normalized("mediquo", mediquo(extra={"color": "blue", "log": [0] * 100_000}))
    assert [*entries(result)] == ["/payload/extra/log"]
    kept = made(result, "Provenance")[0]["extension"]
    assert ["/payload/extra/color", "blue"] in [
        [part["valueString"] for part in item["extension"][:2]] for item in kept
    ]


def test_every_leaf_has_a_row_or_an_entry_above_it() -> None:
    body = mediquo(chat=[{"a": [1, 2, {"b": "c"}]}] * 4_000, reports=[{"type": "soap", "content": {"plan": "rest"}}])
    result = normalized("mediquo", body)
    rows = [leaf.pointer for leaf in result.ledger]
    assert len(rows) == len({*rows})
    known = {*rows}
    for pointer, _ in leaves_of(body):
        above = [pointer]
        while above[-1]:
            above.append(above[-1].rpartition("/")[0])
        assert any(place in known for place in above), pointer


def test_a_clinical_list_is_never_cut_but_refused() -> None:
    with pytest.raises(TooComplex) as refused:
        normalized("mediquo", mediquo(prescriptions=[{**PRESCRIPTION, "id": n} for n in range(1_001)]))
    assert (refused.value.limit, refused.value.path) == ("items", "/payload/prescriptions")


def test_a_refusal_names_no_key_that_may_be_data() -> None:
    prescriptions = {"34600123456": {"id": "r1", "active_substances": ["Ibuprofen"] * 1_001}}
    with pytest.raises(TooComplex) as refused:
        normalized("mediquo", mediquo(prescriptions=prescriptions))
    assert refused.value.path == "/payload/prescriptions/*/active_substances"


def test_what_replaces_a_value_that_was_cut_has_no_row() -> None:
    """An item of a list becomes null, an object may become empty: neither was sent so."""
    notes = [{"text": f"{number}", "inner": {"words": "y" * 900}} for number in range(900)]
    result = normalized("mediquo", mediquo(notes=notes), Limits(values=100, kept=20, kept_bytes=20_000, bytes=100_000))
    assert [leaf.pointer for leaf in result.ledger.notable if leaf.treatment == "ignored"] == []


def test_a_list_of_documents_is_cut_behind_its_last_item_that_fits() -> None:
    answers = [{"question": f"q{number}", "answer": "a"} for number in range(1_500)]
    body = {"type": "recommendation_data", "consultation_id": 5, "user_id": 1, "data": {"postCallAnswer": answers}}
    result = normalized("altibbi", body)
    assert len(made(result, "QuestionnaireResponse")[0]["item"]) == 1_000
    cut = entries(result)["/data/postCallAnswer"]
    assert (cut["values"], cut["from"]) == (1_000, 1_000)
    written = orjson.dumps(answers[1_000:], option=orjson.OPT_SORT_KEYS)
    assert cut["sha256"] == hashlib.sha256(written).hexdigest()


def test_documents_are_given_up_before_the_bundle_loses_a_prescription() -> None:
    """Notes whose escaped text exceeds the bytes of an event: the event is mapped again with less of them."""
    notes = [{"id": n, "type": "soap", "content": {"plan": "'" * 200_000}} for n in range(20)]
    result = normalized("mediquo", mediquo(reports=notes), Limits(bytes=8_000_000))
    assert len(made(result, "MedicationRequest")) == 1
    assert result.bundle is not None
    assert any("/MedicationRequest/" in entry["fullUrl"] for entry in result.bundle.resource["entry"])
    assert sum(len(output.value) for output in result.outputs) <= 8_000_000
    assert entries(result)


def test_too_many_resources_are_refused_as_a_whole() -> None:
    substances = [f"substance {number}" for number in range(60)]
    with pytest.raises(TooComplex) as refused:
        normalized("mediquo", mediquo(prescriptions=[{"active_substances": substances}]), Limits(resources=50))
    assert refused.value.limit == "resources"


@pytest.mark.parametrize("vendor", ["mediquo", "altibbi"])
def test_a_long_string_costs_neither_resource_nor_provenance(vendor: str) -> None:
    text = "x" * (MAX_STRING + 10)
    body = mediquo(patient={"code": "p1", "allergies": [{"id": "a1", "name": "Latex", "description": text}]})
    resource_type, read = "AllergyIntolerance", "/note/0/text"
    if vendor == "altibbi":
        answers = [{"question": "doctor_notes", "answer": text}]
        body = {"type": "recommendation_data", "consultation_id": 5, "user_id": 1, "data": {"postCallAnswer": answers}}
        resource_type, read = "QuestionnaireResponse", "/item/0/answer/0/valueString"
    result = normalized(vendor, {**body, "unknown": text})
    assert value_at(made(result, resource_type)[0], read) == text[:MAX_STRING]
    assert not result.refusals
    assert len(made(result, "Provenance")) == 1
    assert len(issue(result, "string-cut")["expression"]) == 2


def test_a_long_string_that_a_mapping_joins_is_cut() -> None:
    half = "x" * (MAX_STRING // 2 + 10)
    denial = {"name": "no allergies", "description": half}
    result = normalized("mediquo", mediquo(patient={"code": "p1", "allergies": [denial, {**denial, "posology": half}]}))
    assert not result.refusals
    texts = {"name": half, "description": half, "id": "m1", "posology": half}
    result = normalized("mediquo", mediquo(patient={"code": "p1", "medications": [texts]}))
    assert not result.refusals


def test_a_long_pointer_is_cut_with_a_digest_and_a_long_key_is_not_shown() -> None:
    assert len(short(f"/payload/{'k' * 3_000}")) == MAX_SHOWN
    result = normalized("mediquo", mediquo(**{"k" * 3_000: "value"}))
    (kept,) = made(result, "Provenance")[0]["extension"]
    path = kept["extension"][0]["valueString"]
    assert len(path) == MAX_SHOWN
    assert path.startswith("/payload/kkk")
    assert issue(result, "source-data-kept")["expression"] == ["/payload/*"], "an undeclared key may be data"


def test_an_issue_lists_a_hundred_places_and_states_how_many_there_are() -> None:
    result = normalized("mediquo", mediquo(prescriptions=[PRESCRIPTION, *[{"id": None}] * 300]))
    told = issue(result, "item-empty")
    assert len(told["expression"]) == 100
    assert told["diagnostics"] == "The first 100 of 300 places."


def test_a_fold_uses_the_latest_entries_in_any_order() -> None:
    limits = Limits(state=20)
    bodies = [status(number) for number in range(50)]
    case = Case("altibbi", "bounds", tuple(bodies))
    normalize = case.normalizer(limits=limits)
    ends = []
    for order in (range(50), range(49, -1, -1), [*range(0, 50, 2), *range(1, 50, 2)]):
        memory = InMemoryState()
        store: dict[str, bytes] = {}
        for number in order:
            result = normalize(case.envelope(bodies[number]), memory)
            memory.apply(result.state_updates)
            store.update((output.key, output.value) for output in result.outputs)
        encounter = next(orjson.loads(value) for key, value in store.items() if key.startswith("Encounter/"))
        ends.append(encounter)
        assert len(encounter["statusHistory"]) <= 20
        assert "history-cut" in [tag["code"] for tag in encounter["meta"]["tag"]]
        assert len(memory(f"Encounter/{encounter['id']}")) == 21, "one more than is used shows that some are missing"
    assert ends[0] == ends[1] == ends[2]


def test_numbers_are_written_within_bounds() -> None:
    for number in (Decimal("1e1000000000"), Decimal("1e-1000000"), 10**5_000):
        with pytest.raises(ValueError, match="too long"):
            decimal_text(number)
    assert decimal_text(1e300) == f"1{'0' * 300}"
    assert elements.decimal(Decimal("1e1000000000")) is None
    assert elements.integer(Decimal("1e1000000000")) is None


def test_what_cannot_help_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose clinical content alone is too much is bounded once, however many unread values are beside it."""
    tried = []
    plain = bounded

    def counted(*given: Any) -> Any:
        tried.append(given[-1])
        return plain(*given)

    monkeypatch.setattr(normalize, "bounded", counted)
    unread = {f"field{number}": number for number in range(200)}
    diagnosis = [{"name": f"d{number}", **unread} for number in range(60)]
    data: dict[str, Any] = {"icd10": [{"diagnosis": diagnosis}]}
    body: dict[str, Any] = {"type": "recommendation_data", "consultation_id": 5, "user_id": 1, "data": data}
    for answer, levels in (("short", [0]), ("'" * 30_000, [0, 2]), ("'" * 300_000, [0, 1, 2])):
        tried.clear()
        data["postCallAnswer"] = [{"question": "q", "answer": answer}]
        with pytest.raises(TooComplex, match="resources"):
            normalized("altibbi", body, Limits(resources=50, bytes=4_000_000))
        assert tried == levels


def test_the_place_above_pointers_ends_with_a_whole_token() -> None:
    for pointers, place in (
        (["/a/b/0", "/a/b/1"], "/a/b"),
        (["/a/b", "/a/b-c", "/a/b/c"], "/a"),
        (["/a/b", "/a/b/c"], "/a/b"),
        (["/a", "/b"], ""),
        (["/a/", "/a//b"], "/a/"),
    ):
        assert common_pointer(pointers) == place
