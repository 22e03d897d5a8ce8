"""Loading views: what their files say beside the rows, and what is told of a bad one."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views import Column, Index, Reference, View, ViewFailed, load_views
from tests.support.cases import BASE

ID = {"name": "resource_id", "path": "getResourceKey()", "type": "id"}
KEY = {"name": "fhirline/primary-key", "value": "yes"}
KEYED = {**ID, "tag": [KEY]}
NUMBER = {"name": "entry", "path": "%rowIndex", "type": "integer", "tag": [KEY]}
SHIPPED = load_views(base=BASE)
TASK = {"name": "task", "resource": "Task", "select": [{"column": [ID, {"name": "code", "path": "code.text"}]}]}


def write(folder: Path, *documents: Any) -> Path:
    for number, document in enumerate(documents):
        content = document if isinstance(document, bytes) else orjson.dumps(document)
        (folder / f"{number}.json").write_bytes(content)
    return folder


def load(folder: Path, *documents: Any) -> dict[str, View]:
    return load_views(write(folder, *documents), base=BASE)


def selecting(*select: Any, **more: Any) -> dict[str, Any]:
    return {"name": "task", "resource": "Task", "select": [*select], **more}


def columns(*more: Any) -> dict[str, Any]:
    return {"column": [ID, *more]}


def test_a_folder_adds_views_and_replaces_shipped_ones(tmp_path: Path) -> None:
    assert "task" not in SHIPPED
    views = load(tmp_path, TASK, {**TASK, "name": "patient", "resource": "Patient", "select": [columns()]})
    assert views.keys() == {*SHIPPED, "task"}
    assert [column.name for column in views["patient"].columns] == ["resource_id"]
    assert views["task"].rows({"resourceType": "Task", "id": "t", "code": {"text": "Call"}}) == [("t", "Call")]
    assert views["task"].rows({"resourceType": "List", "id": "t", "code": {"text": "Call"}}) == []


def test_tags_are_the_metadata_of_the_table(tmp_path: Path) -> None:
    focus = {
        "name": "focus_id",
        "path": "getReferenceKey(Patient)",
        "type": "http://hl7.org/fhir/StructureDefinition/id",
        "description": "Whom it is about.",
        "tag": [
            {"name": "fhirline/index", "value": "focus"},
            {"name": "fhirline/references", "value": "patient.resource_id"},
            {"name": "ansi/type", "value": "CHARACTER VARYING"},
        ],
    }
    number = {**NUMBER, "tag": [KEY, {"name": "fhirline/index", "value": "focus"}]}
    view = load(tmp_path, selecting({"column": [KEYED]}, {"forEach": "focus", "column": [focus, number]}))["task"]
    assert view.columns[1] == Column("focus_id", "id", False, "Whom it is about.", "getReferenceKey(Patient)")
    assert view.key == ("resource_id", "entry")
    assert view.indexes == (Index("focus", ("focus_id", "entry")),)
    assert view.references == (Reference("focus_id", "patient", "resource_id"),)


def test_the_digest_changes_with_the_definition_only(tmp_path: Path) -> None:
    view = load(tmp_path, TASK)["task"]
    in_other_order = dict(reversed(TASK.items()))
    assert load(tmp_path, in_other_order)["task"].digest == view.digest
    assert load(tmp_path, {**TASK, "description": "Tasks."})["task"].digest != view.digest
    assert load(tmp_path, {**TASK, "where": [{"path": "code.exists()"}]})["task"].digest != view.digest


def test_collections_are_lists(tmp_path: Path) -> None:
    view = load(tmp_path, selecting(columns({"name": "notes", "path": "note.text", "collection": True})))["task"]
    notes = [{"text": "a"}, {}, {"text": "b"}]
    assert view.rows({"resourceType": "Task", "id": "t", "note": notes}) == [("t", ["a", "b"])]
    assert view.rows({"resourceType": "Task", "id": "t"}) == [("t", [])]


def test_a_view_that_was_written_for_another_system_is_a_table(tmp_path: Path) -> None:
    """Without a column ``resource_id``, without a key and without types, as most published views are."""
    names = {"forEachOrNull": "name", "column": [{"name": "family", "path": "family"}]}
    contacts = {"forEachOrNull": "telecom", "column": [{"name": "rank", "path": "rank"}]}
    person = {"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "named", "path": "name.exists()"}]}
    view = load(tmp_path, {"name": "person", "resource": "Patient", "select": [person, names, contacts]})["person"]
    assert [(column.name, column.type) for column in view.columns] == [
        ("resource_id", "id"),
        ("ordinal", "integer"),
        ("id", "id"),
        ("named", "boolean"),
        ("family", "string"),
        ("rank", "positiveInt"),
    ]
    assert view.key == ("resource_id", "ordinal")
    telecom = [{"rank": 1}, {"rank": 2}]
    assert view.rows({"resourceType": "Patient", "id": "p", "telecom": telecom}) == [
        ("p", 1, "p", False, None, 1),
        ("p", 2, "p", False, None, 2),
    ]


def test_a_key_begins_with_the_id_of_the_resource(tmp_path: Path) -> None:
    view = load(tmp_path, selecting({"forEach": "note", "column": [NUMBER]}))["task"]
    assert (view.columns[0].name, view.key) == ("resource_id", ("resource_id", "entry"))
    assert view.rows({"resourceType": "Task", "id": "t", "note": [{}, {}]}) == [("t", 0), ("t", 1)]
    with pytest.raises(ViewFailed, match="a part of one is NULL"):
        view.rows({"resourceType": "Task", "note": [{}]})


@pytest.mark.parametrize(
    ("path", "type", "values"),
    [
        ("intent", "code", {"intent": "plan"}),
        ("authoredOn", "dateTime", {"authoredOn": "2024-03"}),
        ("input.value.ofType(decimal)", "decimal", {"input": [{"valueDecimal": 1.5}]}),
        ("input.count() / 2", "decimal", {"input": [{"valueDecimal": 1.5}]}),
        ("iif(intent.exists(), authoredOn, {})", "dateTime", {"intent": "plan", "authoredOn": "2024-03"}),
        ("executionPeriod.lowBoundary()", "dateTime", {"executionPeriod": {"start": "2024-03"}}),
        ("note.text.combine(intent).first()", "string", {"intent": "plan"}),
        ("input.first().value", "string", {"input": [{"valueBoolean": True}]}),
        ("extension('urn:x').value", "string", {"extension": [{"url": "urn:x", "valueDecimal": 1.5}]}),
    ],
)
def test_the_type_of_a_column_that_states_none(tmp_path: Path, path: str, type: str, values: dict[str, Any]) -> None:
    """R4 tells it, or else it is text."""
    view = load(tmp_path, selecting(columns({"name": "x", "path": path})))["task"]
    assert view.columns[1].type == type
    [(_, value)] = view.rows({"resourceType": "Task", "id": "t", **values})
    assert isinstance(value, float if type == "decimal" else str)


def test_a_view_of_resource_has_rows_of_all_types(tmp_path: Path) -> None:
    view = load(tmp_path, {**TASK, "resource": "Resource"})["task"]
    assert view.has_rows_of("Slot")
    assert view.rows({"resourceType": "Slot", "id": "s"}) == [("s", None)]


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": (b'{"name": ', "0.json:1: not valid JSON"),
    "no object": ([], "0.json: the document: "),
    "a misspelt element": (selecting({**columns(), "forEech": "focus"}), "0.json: select[0].forEech: no such element"),
    "a misspelt where": (selecting(columns(), wher=[]), "0.json: wher: no such element in a ViewDefinition; correct"),
    "no name": ({"resource": "Task", "select": [columns()]}, "0.json: name: missing; it becomes the table's name"),
    "a name that is no SQL name": ({**TASK, "name": "my-task"}, "0.json: name: must match pattern"),
    "a table of our own": ({**TASK, "name": "event"}, "0.json: name: event is made by fhirline itself; choose another"),
    "an id in another place": (
        selecting({"column": [{"name": "code", "path": "code.text"}, ID]}),
        "0.json: column resource_id: has to be the first one, with the path getResourceKey()",
    ),
    "a wrong expression": (
        selecting(columns({"name": "code", "path": "code.text)"})),
        "0.json: select[0].column[1].path: FHIRPath 'code.text)': character 10: unexpected ')'",
    ),
    "a wrong expression far down": (
        selecting(
            columns(), {"unionAll": [{"forEach": "focus", "select": [{"repeat": ["a", "b."], "column": [NUMBER]}]}]}
        ),
        "0.json: select[1].unionAll[0].select[0].repeat[1]: FHIRPath 'b.': character 3: unexpected end",
    ),
    "two iterations": (
        selecting(columns(), {"forEach": "a", "repeat": ["b"], "column": [NUMBER]}),
        "0.json: select[1]: a select has one of forEach, forEachOrNull and repeat; nest",
    ),
    "a select of nothing": (selecting(columns(), {"forEach": "a"}), "0.json: select[1]: a select needs column"),
    "a complex type": (
        selecting(columns({"name": "code", "path": "code", "type": "CodeableConcept"})),
        "0.json: select[0].column[1]: type 'CodeableConcept' is not supported: a column holds a primitive",
    ),
    "a column twice": (selecting(columns({"name": "Resource_ID", "path": "id"})), "two columns are called resource_id"),
    "a union of unlike branches": (
        selecting(columns(), {"unionAll": [{"column": [NUMBER]}, {"column": [{**NUMBER, "name": "n"}]}]}),
        "0.json: select[1].unionAll[1]: its columns are n, those of the first branch entry",
    ),
    "an unknown constant": (
        selecting(columns({"name": "code", "path": "%nobody"}), constant=[{"name": "known", "valueCode": "x"}]),
        "%nobody is not defined; there are %known, %rowIndex",
    ),
    "a constant of two values": (
        selecting(columns(), constant=[{"name": "c", "valueCode": "x", "valueString": "x"}]),
        "0.json: constant[0]: write a name and one value, such as valueString",
    ),
    "a number of its own": (
        selecting(columns(), {"forEach": "focus", "column": [{"name": "ordinal", "path": "type"}]}),
        "0.json: column ordinal: no column is tagged fhirline/primary-key; tag those of the primary key, or give",
    ),
    "a reference to nothing": (
        selecting(columns({"name": "x", "path": "id", "tag": [{"name": "fhirline/references", "value": "a.b"}]})),
        "view task: column x: fhirline/references: there is no a.b; name a view and its column",
    ),
    "a reference that is none": (
        selecting(columns({"name": "x", "path": "id", "tag": [{"name": "fhirline/references", "value": "patient"}]})),
        "0.json: column x: fhirline/references is view.column, such as patient.resource_id",
    ),
}


@pytest.mark.parametrize(("document", "told"), BAD.values(), ids=BAD)
def test_what_is_told_of_a_bad_view(tmp_path: Path, document: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, document)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_name_in_two_files_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"1\.json: name: task is the view of .*0\.json too; rename one"):
        load(tmp_path, TASK, TASK)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing: cannot be read: No such file or directory; name a folder"):
        load_views(tmp_path / "missing", base=BASE)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "several values": ({"name": "x", "path": "note.text"}, "column x: 2 values; take first(), join() them, unroll"),
    "an object": ({"name": "x", "path": "code"}, "column x: its type needs a text, but there is an object: name one"),
    "a text for a number": (
        {"name": "x", "path": "id", "type": "integer"},
        "column x: its type needs a whole number, but",
    ),
    "a boolean for a number": ({"name": "x", "path": "note.exists()", "type": "decimal"}, "but there is a boolean"),
    "a number for a text": ({"name": "x", "path": "note.count()", "type": "string"}, "but there is a number"),
    "an expression of the wrong type": ({"name": "x", "path": "id.startsWith(1)"}, "an expression does not fit Task/t"),
    "an object in a text": ({"name": "x", "path": "code & 'x'"}, "a text is needed here, but there is an object"),
}


@pytest.mark.parametrize(("column", "told"), WRONG.values(), ids=WRONG)
def test_what_is_told_of_a_resource_that_does_not_fit(tmp_path: Path, column: dict[str, Any], told: str) -> None:
    view = load(tmp_path, selecting(columns(column)))["task"]
    secret = {"text": "secret"}
    with pytest.raises(ViewFailed) as raised:
        view.rows({"resourceType": "Task", "id": "t", "code": secret, "note": [secret, {"text": "secret too"}]})
    message = str(raised.value)
    assert message.startswith("view task: ")
    assert told in message
    assert "Task/t" in message
    assert "secret" not in message


def test_rows_with_one_key_are_refused(tmp_path: Path) -> None:
    twice = {"forEach": "note", "select": [{"forEach": "extension", "column": [NUMBER]}]}
    view = load(tmp_path, selecting({"column": [KEYED]}, twice))["task"]
    note = {"extension": [{"url": "a"}]}
    assert view.rows({"resourceType": "Task", "id": "t", "note": [note]}) == [("t", 0)]
    with pytest.raises(ViewFailed, match=r"two rows have the same primary key.*tag a %rowIndex of each.*Task/t"):
        view.rows({"resourceType": "Task", "id": "t", "note": [note, note]})


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Patient", "id": "p", "name": "text", "meta": [], "telecom": {"system": "email"}},
        {"resourceType": "Patient", "id": "p", "name": [None, {}, []], "birthDate": None, "identifier": [[]]},
        {"resourceType": "Patient", "id": 1, "gender": ["a", "b"], "meta": {"source": 7, "tag": "x"}},
        {"resourceType": "Patient", "id": "p", "gender": {"a": 1}},
        {"resourceType": "QuestionnaireResponse", "id": "q", "item": {"item": {"item": [[[{"linkId": 1}]]]}}},
        {},
    ],
    ids=str,
)
def test_hostile_shapes_give_rows_or_an_error_of_ours(resource: dict[str, Any]) -> None:
    for view in SHIPPED.values():
        with suppress(ViewFailed):
            view.rows(resource)


@pytest.mark.parametrize("path", ["$this", "$this.lower()", "$this & 'x'", "'fixed'", "%resource.id", "$this.exists()"])
def test_a_row_of_nothing_has_null_in_all_columns(tmp_path: Path, path: str) -> None:
    """As the specification's algorithm has it: those of a nested forEach and of a union too, but not `%rowIndex`."""
    text = {"column": [{"name": "text", "path": path}, {"name": "number", "path": "%rowIndex", "type": "integer"}]}
    given = {"forEachOrNull": "note.text", "unionAll": [text, text]}
    nested = {"forEachOrNull": "input", "select": [{"forEach": "type", "column": [{"name": "type", "path": "text"}]}]}
    view = load(tmp_path, selecting(columns(), given, nested))["task"]
    assert view.rows({"resourceType": "Task", "id": "t"}) == [("t", 1, None, 0, None)]
    [first, _] = view.rows({"resourceType": "Task", "id": "t", "note": [{"text": "a"}]})
    assert None not in first[:4]
    assert view.rows({"resourceType": "Task", "id": "t", "input": [{}]}) == []


def test_a_deep_resource_needs_no_deep_stack() -> None:
    item: dict[str, Any] = {"linkId": "0"}
    for number in range(1, 20_000):
        item = {"linkId": str(number), "item": [item]}
    view = SHIPPED["questionnaire_answer"]
    rows = view.rows({"resourceType": "QuestionnaireResponse", "id": "q", "item": [item]})
    assert [row[1] for row in rows] == [*range(1, 20_001)]
    assert [row[2] for row in rows[:2]] == ["19999", "19998"]
