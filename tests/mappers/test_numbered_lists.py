"""PHP writes a list with a gap as an object with numbers for keys: it is the list (mapping.md §2.4)."""

from collections import Counter
from typing import Any

import orjson
import pytest

from fhirline.mappers.json_pointer import value_at
from fhirline.mappers.pipeline.normalize import Normalized
from fhirline.mappers.registry import VENDORS
from tests.mappers.test_laws import assert_ledger_is_complete
from tests.support.cases import Case, cases


def numbered(value: Any) -> Any:
    """Return parsed JSON with every list that is not empty as an object with gaps, keys in the order of their text."""
    if isinstance(value, dict):
        return {key: numbered(item) for key, item in value.items()}
    if isinstance(value, list) and value:
        members = {str(3 * position + 8): numbered(item) for position, item in enumerate(value)}
        return dict(sorted(members.items()))
    return value


def contents(result: Normalized) -> Counter[str]:
    """Every resource but the event's own, without what names the event."""
    shown: Counter[str] = Counter()
    for output in result.outputs:
        resource = orjson.loads(output.value)
        if resource["resourceType"] not in ("Provenance", "AuditEvent"):
            resource.pop("meta")
            shown[without_pointers(resource)] += 1
    return shown


def without_pointers(value: Any) -> str:
    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            pointer = value.get("url") == "path" or str(value.get("linkId", "")).startswith("/")
            own = {key: cut(item) for key, item in value.items() if not (pointer and key in ("valueString", "linkId"))}
            return {key: item for key, item in own.items() if key not in ("id", "reference")}
        return [cut(item) for item in value] if isinstance(value, list) else value

    return orjson.dumps(cut(value), option=orjson.OPT_SORT_KEYS).decode()


SHOWN_AS_SENT = {("mediquo", "reports"), *((vendor, "narratives") for vendor in VENDORS)}
"""A report with a list in its content, and narratives that name pointers."""
CASES = [
    case
    for case in cases()
    if (case.vendor, case.name) not in SHOWN_AS_SENT and any(numbered(body) != body for body in case.events)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.vendor}/{case.name}")
def test_an_object_with_numbers_for_keys_is_the_list(case: Case) -> None:
    """Nothing of a golden case is lost, and every pointer has the sender's keys."""
    sent = Case(
        case.vendor,
        case.name,
        tuple(numbered(body) for body in case.events),
        case.received_at,
        case.route_event,
        case.settings,
    )
    for expected, result, envelope in zip(case.run(), sent.run(), sent.envelopes(), strict=True):
        made, approved = contents(result), contents(expected)
        assert made == approved
        assert_ledger_is_complete(result, envelope)
        pointers = {at for flag in result.flags for at in flag.at if at.startswith("/")}
        missing = {at for flag in expected.flags for at in flag.at}
        assert [at for at in pointers - missing if value_at(envelope.body, at.rpartition("/")[0]) is None] == []
        assert [refusal.code for refusal in expected.refusals] == [refusal.code for refusal in result.refusals]
        assert [path for path in result.schema_drift if any(map(str.isdecimal, path.split("/")))] == []


def test_the_order_is_numeric_and_the_pointers_keep_the_senders_keys() -> None:
    allergies = {"10": {"id": 1, "name": "Polen"}, "9": {"id": 1, "name": "Polen"}, "2": "bare", "3": {"id": 7}}
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1704063600,
        "payload": {"consultation": {"id": "c1"}, "patient": {"code": "p1", "allergies": allergies}},
    }
    result = Case("mediquo", "synthetic", (body,)).run()[0]
    at = {flag.code: flag.at for flag in result.flags}
    root = "/payload/patient/allergies"
    assert at["duplicate-collapsed"] == (f"{root}/9", f"{root}/10")
    assert at["value-unreadable"] == (f"{root}/2",)
    assert at["item-empty"] == (f"{root}/3",)
    assert {leaf.pointer for leaf in result.ledger.notable if leaf.unplaced} == {f"{root}/2", f"{root}/3/id"}


@pytest.mark.parametrize("keys", [("9", "name"), ("a",), ("-1", "1"), ("1.5",), ("",), ("\u0663",), ("9" * 16,)])
def test_other_objects_are_a_list_of_one(keys: tuple[str, ...]) -> None:
    body = {
        "type": "recommendation_data",
        "user_id": 1,
        "consultation_id": 72,
        "data": {"followUp": {**{key: {"name": "Do Lab Test"} for key in keys}, "name": "Do Lab Test"}},
        "datetime": "2023-06-15T09:46:01Z",
    }
    result = Case("altibbi", "synthetic", (body,)).run()[0]
    [plan] = [output.resource for output in result.outputs if output.resource["resourceType"] == "CarePlan"]
    assert len(plan["activity"]) == 1
