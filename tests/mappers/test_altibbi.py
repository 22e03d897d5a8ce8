"""Altibbi (mapping.md §9): the samples, the code tables, and the ledger's *mapped* and *kept* are true."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.terminology import load_terminology
from fhirline.mappers.fhir.validation import no_validation
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from tests.support.altibbi import resources
from tests.support.cases import Case, cases, shown

ALTIBBI = [case for case in cases() if case.vendor == "altibbi"]
BY_NAME = {case.name: case for case in ALTIBBI}


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
