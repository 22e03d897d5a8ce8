"""The data dictionary: every table with its columns, as a page (docs/data-dictionary.md)."""

from collections.abc import Iterable, Iterator

from fhirline.streams.tables.built_in import BUILT_IN, EVENT, EVENT_COLUMNS, EVENT_DESCRIPTION
from fhirline.streams.tables.column_types import POSTGRESQL, kind_of
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import ANY_RESOURCE, Column

_HEAD = """# Data dictionary

Every table of `fhirline tables` that ships, with its columns. [warehouse.md](warehouse.md) says how to keep and read
them. In PostgreSQL, `\\d+ fhir.encounter` shows the same. This page is made by `fhirline tables dictionary`.

A type is the database's; FHIR's own is behind it. *From* is the FHIRPath expression that fills the column from a
resource, as the [ViewDefinitions](../config/views) have it ([views.md](views.md)). **Bold** columns are the primary
key. An arrow leads to the table whose rows a column names; the database does not check it.
"""


def as_markdown(tables: Iterable[Table]) -> str:
    """Write the page for these tables, by name, with the view ``event`` where its tables are among them."""
    sections = {table.name: _section(table) for table in tables}
    if {table.name for table in BUILT_IN} <= sections.keys():
        sections[EVENT] = _event()
    listed = ", ".join(f"[{name}](#{name})" for name in sorted(sections))
    return "\n".join((_HEAD, f"{listed}.", *(sections[name] for name in sorted(sections)), ""))


def _section(table: Table) -> str:
    lines = [f"\n## {table.name}\n", _sentence(table.description)]
    made = "Resources of all types have rows." if table.resource == ANY_RESOURCE else f"Made of `{table.resource}`."
    indexes = "; ".join(", ".join(f"`{name}`" for name in columns) for columns in table.indexes)
    lines += [f"{made}{f' Indexes: {indexes}.' if indexes else ''}\n", *_heading("from")]
    for column in table.columns:
        name = f"**{column.name}**" if column.name in table.key else column.name
        target = table.references.get(column.name)
        arrow = f" → [{target}](#{target.partition('.')[0]})" if target else ""
        source = f"`{_escaped(column.path)}`" if column.path else "the record"
        lines.append(_row(name, _type(column), _sentence(column.description) + arrow, source))
    return "\n".join(lines)


def _event() -> str:
    lines = [f"\n## {EVENT}\n", _sentence(EVENT_DESCRIPTION), "A view over record and event_flag.\n", *_heading()]
    lines += [_row(name, _sentence(description)) for name, description in EVENT_COLUMNS.items()]
    return "\n".join(lines)


def _heading(*more: str) -> Iterator[str]:
    columns = ("column", "type", "meaning", *more) if more else ("column", "meaning")
    yield _row(*columns)
    yield "|" + "---|" * len(columns)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _type(column: Column) -> str:
    sql = POSTGRESQL[kind_of(column)]
    listed = f"{sql}[]" if column.collection else sql
    return listed if column.type in ("string", "boolean") else f"{listed} ({column.type})"


def _sentence(text: str) -> str:
    """Write a description as a sentence: a capital at the beginning, a full stop at the end."""
    return _escaped(f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
