"""The code tables of mapping.md §12, which are reviewed by clinicians.

A table is a file ``config/terminology/<name>.yaml`` with a version and rows. A row applies to the vendor's words in its
``source``, compared by `norm`: whole string, case and white space ignored. A deployment's own folder
(``FHIRLINE_TERMINOLOGY_DIR``) may hold files of the same names. Their rows override and extend the packaged ones.

The form of a row's ``means`` is declared per table (`TABLES`), so that a mistake is found, with file and line, when the
tables are loaded.
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
    """A coding of a curated row. ``evidence`` names where it was checked."""

    system: str
    code: str
    display: str | None = None
    evidence: str


class Row(_Strict):
    """One row: the vendor's words, their codings, and what they mean, in the table's own form (a status, a dose, …)."""

    source: tuple[str, ...] = Field(min_length=1)
    codings: tuple[CodeRow, ...] = ()
    means: Mapping[str, Any] = {}
    evidence: str | None = None


class RowTable(Table):
    """A table of rows. No two rows have the same words."""

    title: str
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _each_words_once(self) -> Self:
        seen: dict[str, int] = {}
        for number, row in enumerate(self.rows, 1):
            for words in map(norm, row.source):
                if seen.setdefault(words, number) != number:
                    raise ValueError(f"{words!r} is in row {seen[words]} and in row {number}: remove one of them")
        return self


class Frequency(TypedDict):
    """Timing.repeat: ``frequency`` times in ``period`` × ``period_unit``."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    frequency: Annotated[int, Field(gt=0)]
    period: Annotated[int, Field(gt=0)]
    period_unit: Literal["s", "min", "h", "d", "wk", "mo", "a"]


class FrequencyRow(Row):
    """A row with a Frequency, or with codings only."""

    means: Frequency | Annotated[dict[str, Any], Field(max_length=0)] = {}


class FrequencyTable(RowTable):
    """Frequencies (mapping.md §12.1)."""

    rows: tuple[FrequencyRow, ...]


class Dose(TypedDict):
    """The thing that a dose unit or a dosage form counts (mapping.md §9.2.4). ``unit`` is the unit's printed form."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    dose_class: Annotated[str, Field(pattern=r"^[a-z-]+$")]
    unit: NotRequired[str]


class DoseRow(Row):
    means: Dose


class DoseTable(RowTable):
    """Dose units (mapping.md §12.2) and dosage forms (§12.3)."""

    rows: tuple[DoseRow, ...]


class FollowUp(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    disposition: Literal["instruction", "no-follow-up"]


class FollowUpRow(Row):
    means: FollowUp


class FollowUpTable(RowTable):
    """Follow-up labels (mapping.md §9.2.7)."""

    rows: tuple[FollowUpRow, ...]


class EncounterStatus(TypedDict):
    """An Encounter's status. ``rank`` orders transitions of one instant (mapping.md §9.1.1)."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic configures a TypedDict
    status: Literal["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "unknown"]
    rank: NotRequired[int]


class EncounterStatusRow(Row):
    means: EncounterStatus


class EncounterStatusTable(RowTable):
    """Consultation statuses (mapping.md §9.1.1)."""

    rows: tuple[EncounterStatusRow, ...]


TABLES: Mapping[str, type[RowTable]] = {
    "altibbi-status": EncounterStatusTable,
    "dose-unit": DoseTable,
    "follow-up": FollowUpTable,
    "form": DoseTable,
    "frequency": FrequencyTable,
}
"""Tables whose ``means`` is checked when they are loaded. That of other tables may hold anything."""


def norm(text: str) -> str:
    """Normalize free text to a key: NFC, trimmed, white space collapsed, case-folded (mapping.md §4.1)."""
    return _norm(text) if len(text) <= LONGEST_CACHED else _norm.__wrapped__(text)


LONGEST_CACHED = 200
"""Longest text that is cached: names repeat, longer prose does not and would fill the memory."""


@lru_cache(maxsize=8192)
def _norm(text: str) -> str:
    if text.isascii():  # NFC has nothing to do there
        return " ".join(text.split()).lower()
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()).casefold())


class Terminology:
    """All code tables, looked up by table name and the vendor's words."""

    def __init__(self, tables: Mapping[str, Mapping[str, Row]]) -> None:
        self._tables = tables

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tables)

    def rows(self, table: str) -> Mapping[str, Row]:
        """Return the rows of ``table`` by their words, normalized; raise KeyError for an unknown table."""
        return self._tables[table]

    def row(self, table: str, words: str | None) -> Row | None:
        """Return the row of ``table`` for ``words``, or None; raise KeyError for an unknown table."""
        rows = self._tables[table]
        return rows.get(norm(words)) if words is not None else None


@lru_cache(maxsize=8)
def load_terminology(folder: Path | None = None) -> Terminology:
    """Load every packaged table; rows of a deployment's ``folder`` override its own.

    Raises ConfigurationError with file and line, and for a file in ``folder`` that is not named as a table.
    """
    packaged = {
        file.name for file in (files("fhirline.config") / "terminology").iterdir() if file.name.endswith(".yaml")
    }
    if folder and (unknown := sorted(file.name for file in folder.glob("*.y*ml") if file.name not in packaged)):
        known = ", ".join(sorted(packaged))
        raise ConfigurationError(
            f"FHIRLINE_TERMINOLOGY_DIR: {unknown[0]}: there is no such table; rename it to one of {known}"
        )
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
