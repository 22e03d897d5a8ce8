"""The figures of the pipeline's page, and how many events the page behind each of them lists."""

import re
from html import unescape
from typing import NamedTuple

from fhirline.streams.console.index_entries import MOST_LISTED
from tests.support.console_pages import Visitor

MAPPING = ("Mapped", "Partly", "Unknown", "Dead letters")
DELIVERY = ("Delivered", "To deliver", "Parked", "Refused")
TABLES = ("In tables",)
HOUR = "Last hour"
ALWAYS = ("Received", *MAPPING, HOUR)
"""The columns that every console has, beside latency and last event."""


class Figure(NamedTuple):
    """A number, and the page that it leads to; empty where it is zero. `NOT_KNOWN` where a dash stands for it."""

    number: int
    page: str


NOT_KNOWN = Figure(0, "not known")

Figures = dict[tuple[str, str], dict[str, Figure]]
"""(vendor, event type) → column → figure."""


def figures(page: str, *more: str) -> Figures:
    """Read the table of what became of the events. ``more``: its columns after those of the mapping."""
    table = page.partition('aria-label="What became of it"')[2].partition("</table>")[0]
    found: Figures = {}
    for body in re.findall(r"<tbody>(.*?)</tbody>", table, re.S):
        vendors = re.findall(r'<th scope="rowgroup"[^>]*>([^<]+)</th>', body)
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.S):
            cells = re.findall(r'<td class="figure">(.*?)</td>', row, re.S)
            (hour,) = re.findall(r'<td class="figure hour">(?:<svg .*?</svg>)?(.*?)</td>', row, re.S)
            (type_,) = re.findall(r'<th scope="row">([^<]+)</th>', row)
            columns = ("Received", *MAPPING, *more)
            assert len(cells) == len(columns) + 2, "those, latency and last event"
            found[vendors[0], type_] = dict(zip(columns, map(_figure, cells[:-2]), strict=True)) | {HOUR: _figure(hour)}
    return found


def sums(found: Figures) -> dict[str, int]:
    """Sum up each column."""
    columns = next(iter(found.values()))
    return {column: sum(row[column].number for row in found.values()) for column in columns}


def require_lists(visitor: Visitor, found: Figures) -> set[str]:
    """Assert that each number leads to a page that lists as many events. Return the columns that had a number."""
    seen = set()
    for row in found.values():
        for column, figure in row.items():
            if figure.number:
                page = visitor.get(figure.page).text
                assert listed(page) == min(figure.number, MOST_LISTED), figure
                assert re.search(rf"\b{figure.number:,} events?\b", page), figure
                seen.add(column)
    return seen


def listed(page: str) -> int:
    """Count the rows of a page of events or dead letters."""
    return page.partition('aria-label="Events"')[2].partition("</table>")[0].count('<th scope="row"')


def _figure(cell: str) -> Figure:
    if cell == '<span class="quiet">0</span>':
        return Figure(0, "")
    if cell == "–":
        return NOT_KNOWN
    link = re.fullmatch(r'<a (?:class="attention" )?href="([^"]+)">([\d,]+)</a>', cell)
    assert link, cell
    return Figure(int(link[2].replace(",", "")), unescape(link[1]))
