"""The code tables of mapping.md §12, which are reviewed by clinicians.

A table is a file ``config/terminology/<name>.yaml`` with a version and rows. A row applies to the vendor's words in its
``source``, compared by `norm`: whole string, case and white space ignored. A deployment's own folder
(``FHIRLINE_TERMINOLOGY_DIR``) may hold files of the same names. Their rows override and extend the packaged ones.

The form of a row's ``means`` is declared per table (`TABLES`), so that a mistake is found, with file and line, when the
tables are loaded.
"""

import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from fhirline.config.errors import ConfigurationError
from fhirline.config.tables import Table, parse_table, read_table

SUFFIX = ".yaml"
"""Ending of a table's file name."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


TODO = "TODO"
"""Value of a field of a drafted row that nobody has reviewed. A table with such a row is refused."""


def _refuse_draft(value: Any) -> Any:
    """Raise ValueError where a value, or a part of it, is `TODO`."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if value == TODO:
        raise ValueError("this row is a draft: replace each TODO by a reviewed value, or delete the row")
    for part in parts:
        _refuse_draft(part)
    return value


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

    @model_validator(mode="before")
    @classmethod
    def _without_todo(cls, row: Any) -> Any:
        if isinstance(row, Mapping):
            _refuse_draft({name: value for name, value in row.items() if name != "source"})
        return row


class Target(_Strict):
    """The code that a row's ``means`` holds: the name of the member, and its system; ``BASE/…`` for one of ours."""

    means: str
    system: str


class RowTable(Table):
    """A table of rows. No two rows have the same words. ``target`` is for the table's ConceptMap alone."""

    title: str
    target: Target | None = None
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

    Raises ConfigurationError with file and line, for a ``folder`` that cannot be read, and for a file in it that is not
    named as a table.
    """
    return _merged(_own_tables(folder) if folder else {})


def try_terminology(folder: Path | None, texts: Mapping[str, str]) -> Terminology:
    """Load as `load_terminology` with a folder in which these texts replace the tables' files: table → YAML.

    Raises as it does, with the file's name and line; KeyError for an unknown table.
    """
    tried = {name: parse_table(text, _models()[name], f"{name}{SUFFIX}") for name, text in texts.items()}
    return _merged({**(_own_tables(folder) if folder else {}), **tried})


def _merged(own: Mapping[str, RowTable]) -> Terminology:
    """Merge a deployment's tables over the packaged ones."""
    tables: dict[str, dict[str, Row]] = {}
    for name in _packaged():
        tables[name] = {}
        for row in (*(own[name].rows if name in own else ()), *packaged_table(name).rows):
            for words in row.source:
                tables[name].setdefault(norm(words), row)
    return Terminology(tables)


class Override(NamedTuple):
    """Words for which a deployment's folder has a row. ``shipped``: the packaged row; None where there is none."""

    table: str
    words: str
    shipped: Row | None
    own: Row


def overrides(folder: Path) -> list[Override]:
    """List the words of a deployment's folder by table, in the order of its files. Raises as `load_terminology`."""
    found = []
    for name, table in _own_tables(folder).items():
        shipped = {norm(words): row for row in packaged_table(name).rows for words in row.source}
        found += [Override(name, words, shipped.get(norm(words)), row) for row in table.rows for words in row.source]
    return found


def _models() -> dict[str, type[RowTable]]:
    return {name: TABLES.get(name, RowTable) for name in _packaged()}


def _packaged() -> list[str]:
    """Return the names of the packaged tables."""
    folder = files("fhirline.config") / "terminology"
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.iterdir() if file.name.endswith(SUFFIX))


@cache
def packaged_table(name: str) -> RowTable:
    """Read a table as shipped, without a deployment's own rows. Each is read once in a process."""
    return read_table(f"terminology/{name}{SUFFIX}", TABLES.get(name, RowTable))


def _own_tables(folder: Path) -> dict[str, RowTable]:
    """Read the tables of a deployment's folder by name."""
    try:
        present = sorted(file.name for file in folder.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"FHIRLINE_TERMINOLOGY_DIR: cannot read {folder}: {error.strerror}; correct the path, or unset it"
        ) from None
    packaged = {f"{name}{SUFFIX}" for name in _packaged()}
    if unknown := [name for name in present if Path(name).match("*.y*ml") and name not in packaged]:
        known = ", ".join(sorted(packaged))
        raise ConfigurationError(
            f"FHIRLINE_TERMINOLOGY_DIR: {unknown[0]}: there is no such table; rename it to one of {known}"
        )
    named = [name.removesuffix(SUFFIX) for name in present if name in packaged]
    return {name: read_table(name, TABLES.get(name, RowTable), folder / f"{name}{SUFFIX}") for name in named}
