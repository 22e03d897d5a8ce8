"""``fhirline tables views`` and ``fhirline tables dictionary``."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DIFFERS, PROBLEM_FOUND, UNUSABLE
from fhirline.config.settings import PREFIX
from fhirline.streams.cli import tables
from fhirline.streams.cli.errors import CommandFailed
from tests.support.goldens import golden_resources_of
from tests.support.paths import DOCS

ID = {"name": "resource_id", "path": "getResourceKey()", "type": "id"}
CODE = {"name": "code", "path": "code.text"}
NOTE = {"name": "note", "path": "note.text.first()"}
TASK: dict[str, Any] = {"name": "task", "resource": "Task", "select": [{"column": [ID, CODE, NOTE]}]}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    for name in [item for item in os.environ if item.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    app = typer.Typer()
    tables.register(app)

    def run(*arguments: str | Path, input: str | None = None) -> Result:
        return CliRunner().invoke(app, ["tables", *map(str, arguments)], input=input)

    return run


def folder(path: Path, **changed: Any) -> Path:
    (path / "views").mkdir(exist_ok=True)
    (path / "views" / "task.json").write_text(json.dumps({**TASK, **changed}), "utf-8")
    return path / "views"


def test_the_list_has_the_shipped_views_and_those_of_the_folder(call: Callable[..., Result], tmp_path: Path) -> None:
    lines = call("views", folder(tmp_path, description="Tasks of carers.")).stdout.splitlines()
    assert lines[0] == "view\tresource\tcolumns\tkey\tcontains"
    assert "task\tTask\t3\tresource_id\tTasks of carers." in lines
    assert any(line.startswith("dosage\tMedicationRequest\t") for line in lines)
    [task] = [view for view in json.loads(call("views", tmp_path / "views", "--json").stdout) if view["name"] == "task"]
    assert [column["path"] for column in task["columns"]] == ["getResourceKey()", "code.text", "note.text.first()"]


def test_the_folder_of_the_settings_is_the_default(
    call: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FHIRLINE_TABLES_VIEWS", str(folder(tmp_path)))
    assert "\ntask\tTask\t" in call("views").stdout


def test_check_reports_every_problem_of_every_file(call: Callable[..., Result], tmp_path: Path) -> None:
    assert call("views", "--check").stdout == "Nothing is wrong.\n"
    assert call("views", "--check", folder(tmp_path)).exit_code == 0
    views = folder(tmp_path, select=[{"column": [ID, {**CODE, "path": "cod.text"}]}])
    (views / "broken.json").write_text("{", "utf-8")
    found = call("views", "--check", views)
    assert found.exit_code == PROBLEM_FOUND
    assert found.stdout.splitlines() == [
        f"{views}/broken.json:1: not valid JSON: {found.stdout.splitlines()[0].rpartition('JSON: ')[2]}",
        f"{views}/task.json: select[0].column[1].path: Task has no element cod; did you mean code?",
    ]
    assert len(json.loads(call("views", "--check", views, "--json").stdout)["problems"]) == 2


def test_check_reports_what_is_wrong_between_files(call: Callable[..., Result], tmp_path: Path) -> None:
    views = folder(tmp_path)
    (views / "twice.json").write_text(json.dumps(TASK), "utf-8")
    found = call("views", "--check", views)
    assert found.exit_code == PROBLEM_FOUND
    assert "twice.json: name: task is the view of" in found.stdout


def test_explain_shows_the_rows_of_a_resource(call: Callable[..., Result], tmp_path: Path) -> None:
    views, task = folder(tmp_path), golden_resources_of("Task")[0]
    file = tmp_path / "resource.json"
    file.write_text(json.dumps(task), "utf-8")
    assert call("views", views, "--explain", "task", file).stdout.splitlines() == [
        "row\tcolumn\tvalue\tfrom",
        f"1\tresource_id\t{task['id']}\tgetResourceKey()",
        f"1\tcode\t{task['code']['text']}\tcode.text",
        f"1\tnote\t{task['note'][0]['text']}\tnote.text.first()",
    ]
    expected = [{"resource_id": task["id"], "code": task["code"]["text"], "note": task["note"][0]["text"]}]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": task}, {"request": {"method": "DELETE"}}]}
    for content in (task, [task], bundle):
        shown = call("views", views, "--explain", "task", "-", "--json", input=json.dumps(content))
        assert json.loads(shown.stdout) == expected
    lines = f"{json.dumps(task)}\n\n{json.dumps(task)}\n"
    assert json.loads(call("views", views, "--explain", "task", "-", "--json", input=lines).stdout) == expected * 2


def test_explain_of_what_cannot_be_explained(call: Callable[..., Result], tmp_path: Path) -> None:
    views = folder(tmp_path, select=[{"column": [ID, {**NOTE, "path": "note.text"}]}])
    for name, input, told in (
        ("none", "{}", "--explain: unknown value 'none': known are allergy,"),
        ("task", "{}", "--explain: - has something that is no FHIR resource: no resourceType"),
        ("task", "text", "--explain: - is neither JSON nor a JSON document per line"),
    ):
        failed = call("views", views, "--explain", name, "-", input=input).exception
        assert isinstance(failed, ConfigurationError)
        assert told in str(failed)
    missing = call("views", "--explain", "patient", tmp_path / "missing.json").exception
    assert "--explain: cannot read" in str(missing)
    task = {"resourceType": "Task", "id": "t", "note": [{"text": "a"}, {"text": "b"}]}
    several = call("views", views, "--explain", "task", "-", input=json.dumps(task))
    assert isinstance(several.exception, CommandFailed)
    assert several.exception.exit_code == UNUSABLE
    assert "column note: 2 values; take first()" in str(several.exception)


def test_the_dictionary_is_that_of_the_views(call: Callable[..., Result], tmp_path: Path) -> None:
    """`fhirline tables dictionary > docs/data-dictionary.md` writes the page anew."""
    page = DOCS / "data-dictionary.md"
    same = call("dictionary", "--check", page)
    assert (same.exit_code, same.output) == (0, ""), same.output
    assert call("dictionary").stdout == page.read_text("utf-8")
    other = tmp_path / "page"
    other.write_text(page.read_text("utf-8").replace("## patient\n", "## person\n"), "utf-8")
    differing = call("dictionary", "--check", other)
    assert differing.exit_code == DIFFERS
    number = int(differing.stderr.removeprefix(f"{other}:").partition(":")[0])
    assert other.read_text("utf-8").splitlines()[number - 1] == "## person"
