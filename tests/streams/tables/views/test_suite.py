"""The official tests of SQL on FHIR: each file of the folder that ``SQL_ON_FHIR_TESTS`` names.

They are tests/*.json of https://github.com/FHIR/sql-on-fhir-v2 (MIT licence), and are no part of this repository.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views import View, ViewFailed
from fhirline.streams.tables.views.compiling import compile_view
from fhirline.streams.tables.views.loading import read_definition

FOLDER = os.environ.get("SQL_ON_FHIR_TESTS")


def cases() -> Iterator[Any]:
    for path in sorted(Path(FOLDER or "missing").glob("*.json")):
        document = json.loads(path.read_bytes())
        for test in document["tests"]:
            yield pytest.param(document["resources"], test, id=f"{path.stem}: {test['title']}")


def rows(definition: dict[str, Any], resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    view: View = compile_view(
        "view.json", read_definition("view.json", orjson.dumps(definition)), "https://example.org"
    )
    names = [column.name for column in view.columns]
    return [dict(zip(names, row, strict=True)) for resource in resources for row in view.rows(resource)]


if FOLDER is None:
    pytest.skip("SQL_ON_FHIR_TESTS names no folder of the official tests of SQL on FHIR", allow_module_level=True)


def test_the_folder_has_the_tests() -> None:
    assert len([*cases()]) >= 134, f"SQL_ON_FHIR_TESTS={FOLDER}: is this the folder of the official tests?"


@pytest.mark.parametrize(("resources", "test"), [*cases()])
def test_official(resources: list[dict[str, Any]], test: dict[str, Any]) -> None:
    if test.get("expectError"):
        with pytest.raises((ConfigurationError, ViewFailed)):
            rows(test["view"], resources)
        return
    found = rows(test["view"], resources)
    if "expectCount" in test:
        assert len(found) == test["expectCount"]
        return
    # The order of a union's rows is free.
    assert sorted(map(canonical, found)) == sorted(map(canonical, test["expect"]))
    if "expectColumns" in test:
        assert [list(row) for row in found] == [test["expectColumns"]] * len(found)


def canonical(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)
