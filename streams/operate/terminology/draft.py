"""Drafts of rows for words without one, as files of a deployment's folder of tables (mapping.md §12). Pure.

A drafted row has ``TODO`` wherever a reviewer has to decide, and no table with such a row is loaded.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from fhirline.config.terminology import SUFFIX, TODO, Row, packaged_table
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.terminology.missing import Word

LEAST_SHARE = 0.5
"""Share of a table's shipped rows that have a field or a code system, from which on a drafted row has it too."""


def drafts(words: Sequence[Word], version: str, source: str) -> dict[str, str]:
    """Write one file per table: name → YAML. The most frequent word comes first.

    ``version``: of the files; ``source``: the events that were read, for the heading.
    """
    by_table = sorted(words, key=lambda word: word.table)  # stable: the order within a table stays
    return {
        f"{table}{SUFFIX}": "".join(_file(table, [*own], version, source))
        for table, own in groupby(by_table, lambda word: word.table)
    }


def _file(table: str, words: Sequence[Word], version: str, source: str) -> Iterator[str]:
    rows = packaged_table(table).rows
    yield f"# Draft of rows for the table {table}, from {source}.\n"
    yield f"# Review each row: replace every {TODO}, remove fields that do not apply, or delete the row.\n"
    yield f"# No command loads a table with a {TODO}. Then move the file to FHIRLINE_TERMINOLOGY_DIR, or its rows to\n"
    yield "# the file of its name there.\n"
    yield _heading(table, version)
    for word in words:
        yield from _row(rows, word)


def template(table: str, version: str) -> str:
    """Write a file with one row, in which the words are left to fill in, too."""
    fields = "".join(f"    {line}\n" for line in _fields(packaged_table(table).rows))
    return f"{_heading(table, version)}  - source: [{TODO}]\n{fields}"


def add_row(text: str, word: Word) -> str:
    """Append a drafted row to a table's file that ends with its rows, unless it has been drafted there."""
    return text if has_row(text, word) else f"{text.rstrip()}\n{''.join(_row(packaged_table(word.table).rows, word))}"


def has_row(text: str, word: Word) -> bool:
    """Tell whether a row for the word was drafted in a table's file."""
    return _source(word) in text


def _heading(table: str, version: str) -> str:
    return f"version: {json.dumps(version)}\ntitle: {json.dumps(f'{table}, rows of this deployment')}\nrows:\n"


def _source(word: Word) -> str:
    return f"- source: [{json.dumps(word.spelling, ensure_ascii=False)}]"


def _row(rows: Sequence[Row], word: Word) -> Iterator[str]:
    yield f"  {_source(word)} # {counted(word.times, 'time')} in {counted(word.events, 'event')}\n"
    for line in _fields(rows):
        yield f"    {line}\n"


def _fields(rows: Sequence[Row]) -> Iterator[str]:
    """Write the fields of a drafted row: those that the table's shipped rows have."""
    least = LEAST_SHARE * len(rows)
    names = {name: sum(name in row.means for row in rows) for row in rows for name in row.means}
    if means := [name for name, count in names.items() if count >= least]:
        yield f"means: {{ {', '.join(f'{name}: {TODO}' for name in means)} }}"
    systems = {code.system: sum(_has(row, code.system) for row in rows) for row in rows for code in row.codings}
    coded = [system for system, count in systems.items() if count >= least]
    if coded or not means:
        fields = f"code: {TODO}, display: {TODO}, evidence: {TODO}"
        yield f"codings: [{', '.join(f'{{ system: {system}, {fields} }}' for system in coded or [TODO])}]"
    yield f"evidence: {TODO}"


def _has(row: Row, system: str) -> bool:
    return any(code.system == system for code in row.codings)
