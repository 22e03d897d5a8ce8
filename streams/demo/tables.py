"""The demo's DuckDB file: ``fhirline tables`` makes it from the demo's topics, and SQL queries answer questions."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fhirline.streams.demo.stack import Stack

FILE = Path("fhirline-demo.duckdb")
"""Name of the file, in the folder in which the demo runs. The next demo replaces it."""

DRIVERS = ("duckdb", "pyarrow")


@dataclass(frozen=True)
class Answer:
    """The rows that a question's SQL found."""

    question: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


def missing_driver() -> str | None:
    """Return a package that DuckDB tables need and that is not installed."""
    return next((name for name in DRIVERS if find_spec(name) is None), None)


def make_tables(stack: Stack, path: Path) -> None:
    """Run ``fhirline tables`` once into the file ``path``. Raises StackFailed.

    Settings of a deployment's own tables, in the environment or ``.env``, have no part in it.
    """
    with tempfile.TemporaryDirectory(prefix="fhirline-") as no_views:
        stack.run(
            *("tables", "--to", f"duckdb:{path}", "--once", "--views", no_views),
            tables_schema="fhir",
            tables_without_identities="false",
            metrics_port="0",
        )


def missing_rows(path: Path, keys: set[str]) -> int:
    """Return how many of the records with these keys have no row."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        found = {key for (key,) in connection.execute("select record_key from fhir.record").fetchall()}
    return len(keys - found)


def answers(path: Path) -> Iterator[Answer]:
    """Ask the questions of the folder ``questions``, which docs/warehouse.md explains, in the order of their files."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        for question, statement in questions():
            found = connection.execute(statement)
            yield Answer(question, [column[0] for column in found.description], found.fetchall())


def questions() -> list[tuple[str, str]]:
    """Return the questions with their SQL. The first line of a file is its question, as a comment."""
    folder = files("fhirline.streams.demo") / "questions"
    texts = [item.read_text("utf-8") for item in sorted(folder.iterdir(), key=lambda item: item.name)]
    return [(question.removeprefix("-- "), sql) for question, _, sql in (text.partition("\n") for text in texts)]


def replace_file(path: Path, target: Path = FILE) -> None:
    """Replace ``target`` by a copy of ``path``, whole or not at all. Raises OSError.

    A client that has the old file open keeps it. The journal of an old file is removed first: it is not the new one's.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)
    os.close(descriptor)
    try:
        shutil.copyfile(path, name)
        target.with_name(f"{target.name}.wal").unlink(missing_ok=True)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
