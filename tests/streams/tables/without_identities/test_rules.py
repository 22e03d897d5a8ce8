"""The rules that a view's columns name: what is refused, what is left out, and what cannot be written into."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.view_checks import check_folders
from tests.support.cases import BASE
from tests.support.without_identities import catalog_of, rows_of, settings_of

TASK = {"resourceType": "Task", "id": "t", "for": {"reference": "Patient/p"}}


def folder_of(path: Path, *columns: dict[str, Any], **more: Any) -> Path:
    """Make a folder with a view of Tasks."""
    view = {"resourceType": "ViewDefinition", "name": "task", "resource": "Task", "select": [{"column": [*columns]}]}
    (path / "task.json").write_bytes(orjson.dumps(view | more))
    return path


def column(name: str, path: str, type: str, rule: str | None, **more: Any) -> dict[str, Any]:
    tags = [] if rule is None else [{"name": "fhirline/without-identities", "value": rule}]
    return {"name": name, "path": path, "type": type, "tag": tags, **more}


NAME = column("name", "code.text", "string", None)


def test_a_view_without_rules_has_no_table(tmp_path: Path) -> None:
    assert "task" not in load_catalog(settings_of(tables_views=folder_of(tmp_path, NAME))).tables


def test_a_column_without_a_rule_is_left_out_and_a_list_is_hidden_item_by_item(tmp_path: Path) -> None:
    listed = column("words", "note.text", "string", "word", collection=True)
    again = column("ids", "note.text", "string", "hash", collection=True)
    catalog = load_catalog(settings_of(tables_views=folder_of(tmp_path, NAME, listed, again)))
    assert [item.name for item in catalog.tables["task"].columns] == ["resource_id", "words", "ids"]
    [row] = [row for name, row in rows_of(catalog, [TASK | {"note": [{"text": "booked"}, {"text": "Zeb"}]}]) if row]
    assert row["words"] == ["booked"]
    assert row["ids"] == [catalog.row_id("booked"), catalog.row_id("Zeb")]


@pytest.mark.parametrize(
    ("type", "path", "rule", "message"),
    [
        ("string", "code.text", "hide", "no rule is called 'hide'"),
        ("string", "code.text", "keep", "keep is not for columns of type string"),
        ("string", "code.text", "number", "number is not for columns of type string"),
        ("dateTime", "authoredOn", "hash", "hash is not for columns of type dateTime"),
        ("code", "status", "code", "write a column or a code system behind it"),
        ("code", "status", "word status", "nothing may be behind it"),
        ("code", "status", "code system_of_it", "the view has no column system_of_it"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(tmp_path: Path, type: str, path: str, rule: str, message: str) -> None:
    folder = folder_of(tmp_path, column("x", path, type, rule))
    [found] = check_folders([folder], BASE)
    assert found.startswith("view task: column x: fhirline/without-identities: ")
    assert message in found
    with pytest.raises(ConfigurationError, match="column x: fhirline/without-identities"):
        load_catalog(settings_of(tables_views=folder))


@pytest.mark.parametrize(
    ("system", "code", "kept"),
    [
        ("http://hl7.org/fhir/sid/icd-10", "J11.1", True),
        ("http://hl7.org/fhir/sid/icd-10", "J11.123", False),
        ("http://hl7.org/fhir/sid/icd-10-cm", "S69.90XA", True),
        ("http://loinc.org", "8867-4", True),
        ("http://loinc.org", "8867-5", False),
        ("http://snomed.info/sct", "386661006", True),
        ("http://snomed.info/sct", "386661007", False),
        ("http://snomed.info/sct", "5550123456", False),
        (f"{BASE}/CodeSystem/infermedica-concept", "s_1528", True),
        (f"{BASE}/CodeSystem/infermedica-concept", "s_778812345", False),
        ("https://quix.example/zebulon", "J11.1", False),
        (None, "final", True),
        (None, "Zebulon", False),
    ],
)
def test_a_code_is_kept_by_its_form_or_hashed(system: str | None, code: str, kept: bool) -> None:
    coding = {"code": code} if system is None else {"system": system, "code": code}
    observation = {"resourceType": "Observation", "id": "o", "code": {"coding": [coding]}}
    [row] = [row for name, row in rows_of(catalog_of(), [observation]) if name == "observation"]
    assert row["code"] == (code if kept else catalog_of().row_id(code))
    assert row["code_system"] in (system, None)
    assert "quix" not in str(row["code_system"])
