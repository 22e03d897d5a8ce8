"""Views that load elsewhere, and would give a table wrong rows, or end the process without a word of the view."""

from pathlib import Path
from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views import ViewFailed
from tests.streams.tables.views.test_loading import ID, KEY, TASK, columns, load, selecting

CODE = {"name": "code", "path": "code.text"}


def listing(*branches: dict[str, Any]) -> dict[str, Any]:
    return selecting(columns(), {"unionAll": [{"column": [branch]} for branch in branches]})


def constant(**more: Any) -> dict[str, Any]:
    return selecting(columns(), constant=[{"name": "c", "valueInteger": 1}, {"name": "d", **more}])


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "the id of an element": (
        selecting({"forEach": "input", "column": [{**ID, "path": "id"}]}),
        "0.json: column resource_id: has to be getResourceKey() of the resource in all branches, not of an element",
    ),
    "the id of a contained resource": (
        selecting({"forEach": "contained", "column": [ID]}),
        "0.json: column resource_id: has to be getResourceKey() of the resource",
    ),
    "another id in a branch": (
        selecting({"unionAll": [{"column": [ID]}, {"column": [{**ID, "path": "for.getReferenceKey()"}]}]}),
        "0.json: column resource_id: has to be getResourceKey() of the resource",
    ),
    "a list in one branch": (
        listing({**CODE, "collection": True}, CODE),
        "0.json: select[1].unionAll[1]: column code is a text, in the first branch a list, each a text; give it",
    ),
    "other types in branches": (
        listing({**CODE, "type": "string"}, {**CODE, "path": "code.exists()", "type": "boolean"}),
        "0.json: select[1].unionAll[1]: column code is true or false, in the first branch a text; give it the same",
    ),
    "a list in the key": (
        selecting(columns({"name": "notes", "path": "note.text", "collection": True, "tag": [KEY]})),
        "0.json: column notes: a collection cannot be tagged fhirline/primary-key",
    ),
    "a column of PostgreSQL's own": (
        selecting(columns({**CODE, "name": "xmin"})),
        "0.json: select[0].column[1].name: xmin is a column that PostgreSQL gives every table",
    ),
    "a constant of another type": (constant(valueInteger="2"), "constant[1].valueInteger: must be a whole number"),
    "a constant that is true": (constant(valueInteger=True), "constant[1].valueInteger: must be a whole number"),
    "a constant that is an object": (constant(valueString={"a": 1}), "constant[1].valueString: must be a text"),
    "a constant twice": (constant(name="c", valueString="a"), "constant[1]: there are two constants c"),
    **{
        f"a constant called {name}": (
            constant(name=name, valueString="a"),
            f"constant[1].name: %{name} is a variable that every expression has; choose another name",
        )
        for name in ("resource", "rootResource", "context", "rowIndex")
    },
    "an endless expression": (
        selecting(columns({**CODE, "path": "code.text" + " & 'x'" * 3000})),
        "0.json: select[0].column[1].path: the expression is too long; split it",
    ),
    "a name of ours in capitals": ({**TASK, "name": "Event"}, "0.json: name: Event is made by fhirline itself"),
    "a shipped name in capitals": (
        {**TASK, "name": "Patient"},
        "0.json: name: Patient differs from view patient by its case only; rename it",
    ),
}


@pytest.mark.parametrize(("document", "told"), UNFIT.values(), ids=UNFIT)
def test_it_is_refused(tmp_path: Path, document: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, document)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ({"type": "instant"}, "2024", "column x: a value is no instant"),
        ({"type": "instant"}, "2024-01-01T10:00:00", "column x: a value is no instant"),
        ({"type": "integer"}, 2**63, "column x: a whole number has more than 64 bits"),
        ({"type": "decimal", "path": "x * 1000"}, 1e308, "column x: a number is too large"),
    ],
)
def test_a_value_that_no_database_takes_names_the_column(
    tmp_path: Path, column: dict[str, Any], value: Any, told: str
) -> None:
    view = load(tmp_path, selecting(columns({"name": "x", "path": "x", **column})))["task"]
    with pytest.raises(ViewFailed) as raised:
        view.rows({"resourceType": "Task", "id": "t", "x": value})
    assert told in str(raised.value)
    assert str(value) not in str(raised.value)


def test_a_constant_of_64_bits_is_a_text_in_json(tmp_path: Path) -> None:
    view = load(
        tmp_path,
        selecting(
            columns({"name": "x", "path": "%c", "type": "integer64"}),
            constant=[{"name": "c", "valueInteger64": "9007199254740993"}],
        ),
    )["task"]
    assert view.rows({"resourceType": "Task", "id": "t"}) == [("t", 9007199254740993)]


def test_a_repeat_of_the_element_itself_ends(tmp_path: Path) -> None:
    number = {"name": "number", "path": "rank"}
    view = load(tmp_path, selecting(columns(), {"repeat": ["$this", "input"], "column": [number]}))["task"]
    task = {"resourceType": "Task", "id": "t", "input": [{"rank": "1"}, {"rank": "1"}]}
    assert [row[2] for row in view.rows(task)] == [None, "1", "1"]
