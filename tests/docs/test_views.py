"""docs/views.md against the code: the functions that it lists, and its example."""

import json
import re

import orjson

from fhirline.streams.tables.view_checks import findings
from fhirline.streams.tables.views.fhirpath.compiler import SUPPORTED_FUNCTIONS
from fhirline.streams.tables.views.loading import RESERVED, read_definition, read_view
from tests.support.cases import BASE
from tests.support.goldens import golden_resources_of
from tests.support.paths import DOCS

PAGE = (DOCS / "views.md").read_text("utf-8")


def test_it_lists_every_function() -> None:
    listed = PAGE.partition("* functions: ")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", listed) == sorted(SUPPORTED_FUNCTIONS)


def test_it_names_every_table_that_is_no_view() -> None:
    row = next(line for line in PAGE.splitlines() if "are no names for views" in line)
    assert set(re.findall(r"`(\w+)`", row)) == RESERVED


def test_its_example_is_a_view() -> None:
    example = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
    content = orjson.dumps(example)
    assert findings(read_definition("example", content)) == []
    view = read_view("example", content, BASE)
    assert [view.rows(task)[0][0] for task in golden_resources_of("Task")] == [
        task["id"] for task in golden_resources_of("Task")
    ]
