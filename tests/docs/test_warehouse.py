"""The questions of docs/warehouse.md, with their answers on the demo's data, in both databases."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.tables import questions
from fhirline.streams.tables.open_store import open_store
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import ROOT
from tests.support.postgres import Postgres
from tests.support.tables import keep, of_the_demo, write

PAGE = (ROOT / "docs" / "warehouse.md").read_text("utf-8")
QUESTION = re.compile(r"^```sql\n((?:select|with)\b.*?)```\n\n```text\n(.*?)```", re.MULTILINE | re.DOTALL)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def shown(row: Sequence[Any]) -> list[str]:
    return ["" if value is None else str(value) for value in row]


def wrong(rows: Callable[[str], list[Any]]) -> Iterator[str]:
    for statement, answer in QUESTION.findall(PAGE):
        names, *expected = map(cells, answer.splitlines())
        found = [shown(row) for row in rows(statement)]
        if found != expected or len(names) != len(expected[0]):
            yield f"{statement}{found}"


def asked(settings: Settings) -> list[str]:
    write(settings, of_the_demo(settings))
    keep(settings)
    store = open_store(settings)
    try:
        return [*wrong(store.rows)]
    finally:
        store.close()


def test_the_demo_asks_three_of_them() -> None:
    sections = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
    asked = questions()
    assert len(asked) == 3
    assert [question for question, sql in asked if f"```sql\n{sql}```" not in sections[question]] == []


def test_the_questions_have_their_answers(own_broker: RunningBroker, tmp_path: Path) -> None:
    assert len(QUESTION.findall(PAGE)) >= 12
    assert asked(own_broker.settings(tables_url=f"duckdb:{tmp_path}/demo.duckdb")) == []


@pytest.mark.long
def test_they_have_them_in_postgresql_too(own_broker: RunningBroker, postgres: Postgres) -> None:
    with postgres.database() as database:
        assert asked(own_broker.settings(tables_url=database.url, tables_password=postgres.password)) == []
