"""Codes of a difference: which are named, and which are not."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.operate.replay.codes import OTHER, CodeChange, changed_codes, known_systems
from fhirline.streams.operate.replay.difference import Difference, Kind
from fhirline.streams.operate.replay.kept_report import FILE, KeptReport
from fhirline.streams.operate.replay.report import MOST_CODES, Report, Tally

SNOMED = "http://snomed.info/sct"


def coded(code: Any, system: str = SNOMED) -> dict[str, Any]:
    return {"code": {"coding": [{"system": system, "code": code}]}}


def found(was: Any, now: Any) -> list[CodeChange]:
    return [*changed_codes(was, now, frozenset({SNOMED}))]


def test_the_systems_of_tables_and_of_our_own_are_known() -> None:
    systems = known_systems(Settings(base="https://fhirline.test"))
    assert {SNOMED, "http://unitsofmeasure.org", "https://fhirline.test/CodeSystem/mediquo-channel"} <= systems
    assert "https://fhirline.test/CodeSystem/event-type" in systems
    assert "http://hl7.org/fhir/sid/icd-10" not in systems


def test_a_code_is_named_and_an_absent_one_is_empty() -> None:
    at = "code.coding[].code"
    assert found(coded("22298006"), coded("57054005")) == [CodeChange(at, "22298006", "57054005")]
    assert found({"code": {"text": "x"}}, coded("57054005")) == [CodeChange(at, "", "57054005")]
    assert found(coded("22298006"), {}) == [CodeChange(at, "22298006", "")]
    assert found(coded("22298006"), coded("22298006")) == []


def tagged(*codes: str) -> dict[str, Any]:
    return {"meta": {"tag": [{"system": SNOMED, "code": code} for code in codes]}}


def test_a_tag_that_comes_is_not_told_as_another_one_that_moved() -> None:
    at = "meta.tag[].code"
    assert found(tagged("1", "3"), tagged("1", "2", "3")) == [CodeChange(at, "", "2")]
    assert found(tagged("1", "2", "3"), tagged("3", "1")) == [CodeChange(at, "2", "")]
    assert found(tagged("1", "2"), tagged("1", "3")) == [CodeChange(at, "2", ""), CodeChange(at, "", "3")]
    assert found(tagged("1", "2"), tagged("2", "1")) == []


@pytest.mark.parametrize(
    "value", [coded("555-0100 Smith"), coded("a" * 41), coded(7), coded(["x"]), coded("J20.9", "urn:elsewhere")]
)
def test_what_may_be_no_code_of_a_table_is_not_named(value: dict[str, Any]) -> None:
    assert found(coded("22298006"), value) == [CodeChange("code.coding[].code", "22298006", OTHER)]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({"gender": "male"}, {"gender": "female"}),
        ({"code": "a"}, {"code": "b"}),
        ({"system": SNOMED, "code": "1", "value": 2}, {"system": SNOMED, "code": "2", "value": 2}),
        ({"system": "phone", "value": "555-0100"}, {"system": "phone", "value": "555-0101"}),
    ],
    ids=["a code element", "code alone", "a quantity", "a telecom"],
)
def test_what_is_no_coding_is_not_looked_at(was: dict[str, Any], now: dict[str, Any]) -> None:
    assert found(was, now) == []


def test_counted_changes_of_codes_are_bounded() -> None:
    tally = Tally()
    for number in range(MOST_CODES + 5):
        change = CodeChange("code.coding[].code", "", str(number))
        tally.add(Difference(Kind.CHANGED, "Condition/1", 0, "", codes=(change, change)))
    assert (len(tally.codes), tally.more_codes) == (MOST_CODES, 10)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    change = CodeChange("code.coding[].code", "1", "")
    example = Difference(Kind.CHANGED, "Condition/1", 3, "raw.altibbi/3/17", "0.1", ("code.coding",), "t", (change,))
    tally = Tally(Counter({Kind.CHANGED: 2, Kind.BY_VERSION: 1}), Counter({"code.coding": 2}), [example])
    tally.codes[change] += 2
    kept = KeptReport("2026-01-01T00:00:00Z", 7, {"empty": 1}, "tables", Report({"Condition": tally}), 3)
    kept.save(tmp_path)
    assert KeptReport.load(tmp_path) == kept
    (tmp_path / FILE).write_text("[]")
    assert KeptReport.load(tmp_path) is None
