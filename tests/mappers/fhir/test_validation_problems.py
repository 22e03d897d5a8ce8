"""Problems of validation tell paths, codes and words, and never a value."""

from typing import Any

import orjson

from fhirline.mappers.fhir.validation import (
    as_json,
    compiled,
    fhir_resources,
    problems_text,
)
from tests.support.validation.changes import alter, contained_medication
from tests.support.validation.parts import BASE
from tests.support.validation.samples import samples


def test_all_problems_are_told_with_their_paths() -> None:
    resource = alter(
        "Encounter", status="done", period={"start": "x"}, participant=[{"individual": {"reference": "?"}}]
    )
    assert [(item.path, item.code) for item in compiled(resource)] == [
        ("Encounter.participant.0.individual.reference", "reference-syntax"),
        ("Encounter.period.start", "string_pattern_mismatch"),
        ("Encounter.status", "literal_error"),
    ]


def test_problems_of_a_bundles_resources_have_its_path() -> None:
    bundle = alter("Bundle")
    bundle["entry"][1]["resource"] = alter("Encounter", status="done")
    assert [item.path for item in compiled(bundle)] == ["Bundle.entry.1.resource.status"]
    bundle["entry"][1]["resource"] = "x"
    assert [item.path for item in compiled(bundle)] == ["Bundle.entry.1.resource"]


def test_problems_never_hold_the_value() -> None:
    secret = "SECRET 4711 \u2028"
    for base in [*samples(), contained_medication()]:
        for into, name in _leaves(base):
            kept, into[name] = into[name], secret
            told = orjson.dumps([as_json(compiled(base)), problems_text(compiled(base)), as_json(fhir_resources(base))])
            assert b"SECRET" not in told
            into[name] = kept


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict | list):
        return []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        place
        for name, item in list(items)
        for place in [*_leaves(item), *([(value, name)] if isinstance(item, str) else [])]
    ]


def test_texts() -> None:
    problems = compiled(alter("Encounter", status="done"))
    assert problems_text(problems) == "Encounter.status (literal_error)"
    assert [(item["path"], item["code"]) for item in as_json(problems)] == [("Encounter.status", "literal_error")]
    assert BASE not in problems_text(problems)
