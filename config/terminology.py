"""The code tables of mapping.md §12: data that clinicians review, loaded and checked, never code.

Each table is ``config/terminology/<name>.yaml``: a version and rows; a row's ``source`` are the vendor's words that it
holds for (compared by ``norm``: whole string, case and white space ignored). A deployment's own folder
(``FHIRLINE_TERMINOLOGY_DIR``) may hold files of the same names: their rows come first, so they override and extend.
"""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from config.tables import Table, read_table


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeRow(_Strict):
    """A coding of a curated row; ``evidence`` says where it was checked."""

    system: str
    code: str
    display: str | None = None
    evidence: str


class Row(_Strict):
    """One row: the vendor's words, and what they mean. ``means`` is the table's own (a status, a dose class, …)."""

    source: tuple[str, ...] = Field(min_length=1)
    codings: tuple[CodeRow, ...] = ()
    means: Mapping[str, Any] = {}
    evidence: str | None = None


class RowTable(Table):
    title: str
    rows: tuple[Row, ...]


def norm(text: str) -> str:
    """As ``mappers.identity.norm``: NFC, trimmed, white space collapsed, case-folded."""
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()).casefold())


class Terminology:
    """All tables; looked up by table name and the vendor's words."""

    def __init__(self, tables: Mapping[str, Mapping[str, Row]]) -> None:
        self._tables = tables

    def row(self, table: str, words: str | None) -> Row | None:
        """The row of ``table`` for ``words``, None where there is none. KeyError for an unknown table."""
        rows = self._tables[table]
        return rows.get(norm(words)) if words is not None else None


@lru_cache(maxsize=8)
def load_terminology(folder: Path | None = None) -> Terminology:
    """Load every packaged table, with the rows of a deployment's folder before them."""
    tables: dict[str, dict[str, Row]] = {}
    for packaged in sorted((files("config") / "terminology").iterdir(), key=lambda each: each.name):
        if not packaged.name.endswith(".yaml"):
            continue
        name = packaged.name.removesuffix(".yaml")
        rows = list(read_table(f"terminology/{packaged.name}", RowTable).rows)
        if folder and (own := folder / packaged.name).exists():
            rows = [*read_table(own.name, RowTable, own).rows, *rows]
        tables[name] = {}
        for row in rows:
            for words in row.source:
                tables[name].setdefault(norm(words), row)
    return Terminology(tables)
