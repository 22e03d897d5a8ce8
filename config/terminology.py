"""The code tables of mapping.md §12: data that clinicians review, loaded and checked, never code.

Each table is ``config/terminology/<name>.yaml``: a version and rows; a row's ``source`` are the vendor's words that it
holds for (compared by ``norm``: whole string, case and white space ignored). A deployment's own folder
(``FHIRLINE_TERMINOLOGY_DIR``) may hold files of the same names: their rows come first, so they override and extend.

What a row ``means`` is declared per table (`TABLES`), so that a slip is found when the tables are loaded, with the file
and line, and not when the first event needs the row.
"""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from fhirline.config.errors import ConfigurationError
from fhirline.config.tables import Table, read_table


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

    @model_validator(mode="after")
    def _each_words_once(self) -> Self:
        seen: dict[str, int] = {}
        for number, row in enumerate(self.rows, 1):
            for words in map(norm, row.source):
                if seen.setdefault(words, number) != number:
                    raise ValueError(f"{words!r} stands in row {seen[words]} and in row {number}; keep one of them")
        return self


class Frequency(TypedDict):
    """Timing.repeat: ``frequency`` times in ``period`` × ``period_unit``; nothing where only the code is known."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    frequency: Annotated[int, Field(gt=0)]
    period: Annotated[int, Field(gt=0)]
    period_unit: Literal["s", "min", "h", "d", "wk", "mo", "a"]


class FrequencyRow(Row):
    means: Frequency | Annotated[dict[str, Any], Field(max_length=0)] = {}


class FrequencyTable(RowTable):
    """mapping.md §12.1."""

    rows: tuple[FrequencyRow, ...]


class Dose(TypedDict):
    """What a dose unit, or a dosage form, counts (mapping.md §9.2.4); ``unit`` is how the unit is written."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    dose_class: Annotated[str, Field(pattern=r"^[a-z-]+$")]
    unit: NotRequired[str]


class DoseRow(Row):
    means: Dose


class DoseTable(RowTable):
    """mapping.md §12.2, and the forms of §12.3."""

    rows: tuple[DoseRow, ...]


class FollowUp(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    disposition: Literal["instruction", "no-follow-up"]


class FollowUpRow(Row):
    means: FollowUp


class FollowUpTable(RowTable):
    """mapping.md §9.2.7."""

    rows: tuple[FollowUpRow, ...]


class EncounterStatus(TypedDict):
    """``rank`` orders transitions of one instant (mapping.md §9.1.1, "Fold")."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    status: Literal["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "unknown"]
    rank: NotRequired[int]


class EncounterStatusRow(Row):
    means: EncounterStatus


class EncounterStatusTable(RowTable):
    """mapping.md §9.1.1."""

    rows: tuple[EncounterStatusRow, ...]


TABLES: Mapping[str, type[RowTable]] = {
    "altibbi-status": EncounterStatusTable,
    "dose-unit": DoseTable,
    "follow-up": FollowUpTable,
    "form": DoseTable,
    "frequency": FrequencyTable,
}
"""Tables whose rows' ``means`` is checked when they are loaded; those of others may hold anything."""


def norm(text: str) -> str:
    """Free text as a key: NFC, trimmed, white space collapsed, case-folded (mapping.md §4.1)."""
    return _norm(text) if len(text) <= LONGEST_CACHED else _norm.__wrapped__(text)


LONGEST_CACHED = 200
"""Names come again; what is longer is prose, and would fill the memory."""


@lru_cache(maxsize=8192)
def _norm(text: str) -> str:
    if text.isascii():  # NFC has nothing to do there
        return " ".join(text.split()).lower()
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()).casefold())


class Terminology:
    """All tables; looked up by table name and the vendor's words."""

    def __init__(self, tables: Mapping[str, Mapping[str, Row]]) -> None:
        self._tables = tables

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tables)

    def row(self, table: str, words: str | None) -> Row | None:
        """The row of ``table`` for ``words``, None where there is none. KeyError for an unknown table."""
        rows = self._tables[table]
        return rows.get(norm(words)) if words is not None else None


@lru_cache(maxsize=8)
def load_terminology(folder: Path | None = None) -> Terminology:
    """Load every packaged table, with the rows of a deployment's folder before them.

    Raises ConfigurationError naming file and line, also for a file in ``folder`` that overrides no table.
    """
    packaged = {
        each.name for each in (files("fhirline.config") / "terminology").iterdir() if each.name.endswith(".yaml")
    }
    if folder and (strange := sorted(each.name for each in folder.glob("*.y*ml") if each.name not in packaged)):
        known = ", ".join(sorted(packaged))
        raise ConfigurationError(f"FHIRLINE_TERMINOLOGY_DIR: {strange[0]}: no such table; tables are {known}")
    tables: dict[str, dict[str, Row]] = {}
    for file in sorted(packaged):
        name = file.removesuffix(".yaml")
        model = TABLES.get(name, RowTable)
        rows = list(read_table(f"terminology/{file}", model).rows)
        if folder and (own := folder / file).exists():
            rows = [*read_table(file, model, own).rows, *rows]
        tables[name] = {}
        for row in rows:
            for words in row.source:
                tables[name].setdefault(norm(words), row)
    return Terminology(tables)
